// The options' form: its controls, and the request's fields that they mean. Knows the API's names; sends nothing.
import { COLOURS, SCENES, TEMPLATES, cssGradient } from "./backgrounds.js";
import { Picture } from "./picture.js";
import { RecipePicker } from "./recipes.js";

const EDGE = ["alpha_threshold", "erode_px", "feather_px", "refine"];
const OWN = "own"; // the gradient that is no template
const LOSSY = ["webp", "jpg", "avif"];

export class OptionsForm {
  #form;
  #changed;
  #sliders = [];
  #thumb;
  #recipes;
  #background = null; // the picture to lay behind, a File
  #backgroundCount = 0; // tells one chosen file from the next

  /** `changed()` is called after every change of what would be asked for. */
  constructor(form, backgroundInput, changed) {
    this.#form = form;
    this.#changed = changed;
    this.#thumb = new Picture(form.querySelector("#background-thumb"));
    this.#recipes = new RecipePicker(form.querySelector("#recipes"));
    this.fill();
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const range of form.querySelectorAll("input[type=range]")) this.#sliders.push(withNumber(range));
    this.#buildColours();
    buildTemplates(form.querySelector("#templates"));
    this.#bindBackgroundFile(backgroundInput);
    form.addEventListener("input", () => this.#update());
    form.addEventListener("reset", () => setTimeout(() => this.#afterReset())); // the event comes before the reset
    this.#arrange();
  }

  /** Asks for the recipes; again, where the service told none without a key. */
  fill() {
    this.#recipes.fill();
  }

  /** What to ask for: {fields, background, key}; equal keys mean equal answers for one photo. */
  request(product) {
    const recipe = this.#recipes.chosen;
    if (recipe && product !== "alpha") return this.#keyed({ recipe: recipe.id }, null); // it says all the rest
    const fields = this.#edge(recipe);
    if (product === "alpha") return this.#keyed({ ...fields, output: "alpha" }, null);
    const background = this.#backgroundFields();
    const picture = this.#kind() === "picture" ? this.#background : null;
    const form = this.#form.elements;
    Object.assign(fields, { foreground: form.foreground.checked ? "estimate" : "original" }, background);
    if (form.shadow.value !== "none") {
      Object.assign(fields, { output: "composite", shadow: form.shadow.value });
      if (!picture && !Object.keys(background).length) fields.background_color = "transparent";
    }
    if (form.format.value) fields.format = form.format.value;
    if (LOSSY.includes(form.format.value)) fields.encode_quality = form.encode_quality.value;
    return this.#keyed(fields, picture);
  }

  #keyed(fields, background) {
    return { fields, background, key: JSON.stringify([fields, background ? this.#backgroundCount : 0]) };
  }

  #edge(recipe) {
    const own = (name) => this.#form.elements[name].value;
    return Object.fromEntries(EDGE.map((name) => [name, recipe ? String(recipe.options[name]) : own(name)]));
  }

  #kind() {
    return this.#form.elements.background.value;
  }

  #backgroundFields() {
    const form = this.#form.elements;
    switch (this.#kind()) {
      case "color":
        return { background_color: form.background_color.value };
      case "gradient":
        return form.template.value === OWN
          ? { background_gradient: this.#ownGradient() }
          : { background_template: form.template.value };
      case "blur":
        return { background_blur_px: form.background_blur_px.value };
      case "picture":
        return this.#background ? { background_scaling: form.background_scaling.value } : {};
      default:
        return {};
    }
  }

  #ownGradient() {
    const form = this.#form.elements;
    return `${form.gradient_angle.value}deg ${form.gradient_from.value} ${form.gradient_to.value}`;
  }

  /** Whether the result has no transparency, as far as the options tell. */
  #opaque() {
    const form = this.#form.elements;
    const kind = this.#kind();
    if (kind === "picture") return this.#background !== null && form.background_scaling.value === "fill";
    return kind !== "transparent";
  }

  #update() {
    this.#arrange();
    this.#changed();
  }

  /** Shows the controls that matter now. */
  #arrange() {
    const form = this.#form.elements;
    const kind = this.#kind();
    this.#recipes.arrange();
    for (const group of this.#form.querySelectorAll("fieldset.group")) {
      group.disabled = group.id !== "recipes" && this.#recipes.chosen !== null;
    }
    for (const part of this.#form.querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== kind;
    this.#form.querySelector("#own-gradient").hidden = form.template.value !== OWN;
    this.#form.querySelector("#templates [data-own]").style.background = cssGradient(this.#ownGradient());
    for (const button of this.#form.querySelectorAll("#colours button")) {
      button.setAttribute("aria-pressed", String(button.value === form.background_color.value));
    }
    this.#form.querySelector(".tile-color").style.background = form.background_color.value;
    const jpg = form.format.querySelector("[value=jpg]");
    jpg.disabled = !this.#opaque();
    if (jpg.disabled && form.format.value === "jpg") form.format.value = "";
    this.#form.querySelector("#no-jpg").hidden = !jpg.disabled;
    this.#form.querySelector("#quality-row").hidden = !LOSSY.includes(form.format.value);
    for (const sync of this.#sliders) sync();
  }

  #afterReset() {
    this.#background = null;
    this.#showBackground();
    this.#update();
  }

  #buildColours() {
    const place = this.#form.querySelector("#colours");
    for (const [name, colour] of Object.entries(COLOURS)) {
      const button = Object.assign(document.createElement("button"), { type: "button", value: colour });
      button.className = "swatch";
      button.style.background = colour;
      button.dataset.i18nAriaLabel = button.dataset.i18nTitle = `colour.${name}`;
      button.addEventListener("click", () => {
        this.#form.elements.background_color.value = colour;
        this.#update();
      });
      place.append(button);
    }
  }

  #bindBackgroundFile(input) {
    this.#form.querySelector("#background-pick").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      if (!file) return;
      this.#background = file;
      this.#backgroundCount += 1;
      this.#showBackground();
      this.#update();
    });
  }

  async #showBackground() {
    const file = this.#background;
    const name = this.#form.querySelector("#background-name");
    const thumb = this.#form.querySelector("#background-thumb");
    name.hidden = !file;
    name.textContent = file?.name ?? "";
    if (file) thumb.hidden = !(await this.#thumb.show(file));
    else {
      this.#thumb.clear();
      thumb.hidden = true;
    }
  }
}

/** Adds a number field to a slider, both showing one value; gives back what brings the field up to date. */
function withNumber(range) {
  const number = Object.assign(document.createElement("input"), { type: "number", defaultValue: range.defaultValue });
  const label = range.form.querySelector(`label[for="${range.id}"]`);
  label.id = `${range.id}-label`;
  number.setAttribute("aria-labelledby", label.id);
  for (const name of ["min", "max", "step"]) number[name] = range[name];
  number.addEventListener("input", () => {
    if (number.value !== "" && number.validity.valid) range.value = number.value;
  });
  number.addEventListener("blur", () => (number.value = range.value));
  range.before(number);
  return () => {
    if (document.activeElement !== number) number.value = range.value; // never under the typing hand
  };
}

/** Radio buttons for the templates, the scenes and for an own gradient. */
function buildTemplates(place) {
  for (const name of [...Object.keys(TEMPLATES), ...Object.keys(SCENES), OWN]) {
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "template", value: name });
    radio.defaultChecked = name === Object.keys(TEMPLATES)[0];
    radio.dataset.i18nAriaLabel = name === OWN ? "background.own-gradient" : `template.${name}`;
    const face = Object.assign(document.createElement("i"), { className: "swatch" });
    face.dataset.i18nTitle = radio.dataset.i18nAriaLabel;
    if (name === OWN) face.dataset.own = "";
    else face.style.background = SCENES[name] ?? cssGradient(TEMPLATES[name]);
    const label = document.createElement("label");
    label.append(radio, face);
    place.append(label);
  }
}
