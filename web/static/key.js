// The API key of a service that asks for one: typed by the user, kept until the tab is closed, sent with each request.
const KEPT = "mattehorn.key";

let key = recall();

/** The headers that a request to the API needs. */
export const keyHeaders = () => (key ? { "X-API-Key": key } : {});

/** Makes `form` take a key; `taken` is called when there is one. */
export function bindKeyForm(form, taken) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = form.elements.key;
    key = field.value.replace(/[^\x21-\x7e]/g, ""); // what a header cannot hold no key has
    field.value = "";
    if (!key) return;
    remember(key);
    taken();
  });
}

function recall() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return ""; // storage may be forbidden; the key is then asked for once a visit
  }
}

function remember(value) {
  try {
    sessionStorage.setItem(KEPT, value);
  } catch {
    // see recall
  }
}
