// An <img> that holds one blob at a time and gives its object URL back.

export class Picture {
  #img;
  #url = null;

  constructor(img) {
    this.#img = img;
  }

  /** Shows `blob`; the picture before stays until the new one is decoded. False: this browser cannot show it, or
   * another blob came in between. */
  async show(blob) {
    const before = this.#url;
    const url = URL.createObjectURL(blob);
    this.#url = url;
    this.#img.src = url;
    let shown = true;
    try {
      await this.#img.decode();
    } catch {
      shown = false;
    }
    if (before) URL.revokeObjectURL(before);
    return shown && this.#url === url;
  }

  clear() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
    this.#img.removeAttribute("src");
  }
}
