// The ways a photo comes in: picked, dropped anywhere on the page, or pasted. Hands on files; sends nothing.

/** Calls `take(files)` with at least one File, or `none()` when a drop or paste held no file. */
export function bindPhotoInput({ input, buttons, veil, take, none }) {
  for (const button of buttons) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // the same file may be picked again
    if (files.length) take(files);
  });
  bindDrop(veil, take, none);
  bindPaste(take, none);
}

function bindDrop(veil, take, none) {
  let depth = 0; // dragenter and dragleave also come from every element inside
  const show = (on) => {
    veil.hidden = !on;
    if (!on) depth = 0;
  };
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth += 1;
    show(true);
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) show(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault(); // else the browser would open the photo in place of the page
    show(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) take(files);
    else none();
  });
}

function bindPaste(take, none) {
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      take(files);
    } else if (!event.target.closest?.("input, textarea")) {
      none();
    }
  });
}
