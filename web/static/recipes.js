// The service's recipes: a choice of them, what the chosen one is for and what it sets. Knows no other option.
import { say } from "./i18n.js";
import { keyHeaders } from "./key.js";

const NO_PICTURE = "zip"; // a recipe whose result this page cannot show is not offered

export class RecipePicker {
  #group;
  #select;
  #recipes = new Map();

  /** `group` is the fieldset with the select; it stays hidden where the service tells of no recipes. */
  constructor(group) {
    this.#group = group;
    this.#select = group.querySelector("select");
  }

  /** Asks the service and fills the select. */
  async fill() {
    if (this.#recipes.size) return; // asked again, once there is a key
    const found = (await recipes()).filter(({ options }) => options.output !== NO_PICTURE);
    const newest = new Map(found.map((recipe) => [recipe.name, recipe])); // later versions come later
    for (const recipe of newest.values()) {
      this.#recipes.set(recipe.id, recipe);
      this.#select.append(new Option(recipe.id, recipe.id));
    }
    this.#group.hidden = this.#recipes.size === 0;
  }

  /** The chosen recipe as GET /v1/recipes has it, or null. */
  get chosen() {
    return this.#recipes.get(this.#select.value) ?? null;
  }

  /** Shows what the chosen one is for and what it sets. */
  arrange() {
    const recipe = this.chosen;
    const about = this.#group.querySelector("#recipe-about");
    const sets = this.#group.querySelector("#recipe-sets");
    about.hidden = sets.hidden = !recipe;
    if (!recipe) return;
    about.textContent = recipe.description;
    const given = Object.entries(recipe.given).map(([name, value]) => `${name} ${value}`);
    say(sets, "recipe.sets", { options: given.join(", ") });
  }
}

async function recipes() {
  try {
    const response = await fetch("/v1/recipes", { cache: "no-store", headers: keyHeaders() });
    return response.ok ? (await response.json()).recipes : [];
  } catch {
    return []; // no answer: the page works without
  }
}
