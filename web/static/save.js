// A picture as a file of the visitor's.
const SAVED_MS = 10_000; // browsers read the blob some time after the click
const SUFFIX = {
  "image/png": "png",
  "image/webp": "webp",
  "image/jpeg": "jpg",
  "image/avif": "avif",
  "application/zip": "zip",
};

/** Saves `blob`, of a photo called `name`, as `<stem>_<what>.<ext>`; `type` is its media type. */
export function save(blob, name, what, type) {
  const stem = name.replace(/\.[^.]*$/, "") || "photo";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${stem}_${what}.${SUFFIX[type]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), SAVED_MS);
}
