// The page's language: which one, and putting its texts into elements. The texts are in i18n/en.js and i18n/zh.js.
import { en } from "./i18n/en.js";
import { zh } from "./i18n/zh.js";

export const texts = { en, zh };
const TAGS = { en: "en", zh: "zh-CN" };
const REMEMBERED = "mattehorn.language";
const ATTRIBUTES = ["alt", "aria-label", "placeholder", "title"];

const values = new WeakMap(); // what `say` put into an element, for the next change of language
let language = "en";

/** The BCP 47 tag of the language shown, for Intl. */
export const tag = () => TAGS[language];

/** The text of `key`, each {name} replaced by `given[name]`; a function among these is called now. */
export function t(key, given = {}) {
  return texts[language][key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = given[name];
    return String(typeof value === "function" ? value() : value);
  });
}

/** Puts a text into `element`, and again whenever the language changes. */
export function say(element, key, given = {}) {
  element.dataset.i18n = key;
  values.set(element, given);
  element.textContent = t(key, given);
}

/** The remembered language, else the browser's. */
export function initialLanguage() {
  const known = recall();
  if (known in TAGS) return known;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Shows every text in `wanted` ("en" or "zh"). */
export function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = TAGS[wanted];
  document.title = t("page.title");
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.dataset.i18n, values.get(element));
  }
  for (const name of ATTRIBUTES) {
    for (const element of document.querySelectorAll(`[data-i18n-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-i18n-${name}`)));
    }
  }
}

/** Makes `button` offer the other language. `changed` is called after each change. */
export function bindLanguageButton(button, changed) {
  const show = () => {
    const other = language === "en" ? "zh" : "en";
    button.lang = TAGS[other];
    button.textContent = other === "zh" ? "中文" : "English";
  };
  button.addEventListener("click", () => {
    setLanguage(language === "en" ? "zh" : "en");
    remember(language);
    show();
    changed();
  });
  show();
}

function recall() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null; // storage is switched off: the browser's language then
  }
}

function remember(choice) {
  try {
    localStorage.setItem(REMEMBERED, choice);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
}
