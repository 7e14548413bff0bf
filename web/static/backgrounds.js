// The choices of a background: the service's gradient templates and scenes, some plain colours, and how a gradient looks in CSS.

/** The service's templates, in its own grammar; a test holds them equal to mattehorn/colour.py. */
export const TEMPLATES = {
  "studio-white": "radial #ffffff 0% #fbfbfb 55% #e9eaec 100%",
  "studio-grey": "radial #f0f0f0 0% #c9cbce 60% #8f9297 100%",
  "warm-paper": "180deg #fbf5ea 0% #f0e4d0 100%",
  "sky-blue": "180deg #8ec5f2 0% #dff0fb 100%",
  mint: "135deg #e6f7ef 0% #a9dcc6 100%",
  sunset: "180deg #3f4c7c 0% #d97f6d 60% #f6c98b 100%",
  night: "radial #3a4256 0% #1b2030 60% #0b0d14 100%",
};

/** The service's scenes, and roughly how each looks on a swatch; a test holds the names equal to mattehorn/scenes.py. */
export const SCENES = {
  "studio-sweep": "linear-gradient(180deg, #bcbec2, #d2d4d7 60%, #ecedef 85%)",
  "window-light": "linear-gradient(180deg, #eee2d0 75%, #d9c8b1 76%)",
  "wood-table": "linear-gradient(180deg, #4a3e36, #756355 65%, #b98f60 67%)",
  marble: "linear-gradient(180deg, #d8dfe4 67%, #f2f2f1 69%)",
  garden: "linear-gradient(180deg, #5c8c4c, #8ab05e 70%, #bdb9ae 74%)",
};

/** Name and colour. The two ID colours are the usual blue and red of Chinese ID photos. */
export const COLOURS = {
  white: "#ffffff",
  grey: "#f1f2f3",
  black: "#000000",
  "id-blue": "#438edb",
  "id-red": "#d9001b",
  green: "#00b140",
};

/** A gradient of the service as a CSS image: '90deg #fff 0% #ccc 100%' or 'radial #fff #ccc'. */
export function cssGradient(text) {
  const [head, ...words] = text.split(/\s+/);
  const stops = words.reduce((found, word) => {
    if (word.endsWith("%")) found.push(`${found.pop()} ${word}`);
    else found.push(word);
    return found;
  }, []);
  if (head === "radial") return `radial-gradient(circle farthest-corner, ${stops.join(", ")})`;
  return `linear-gradient(${head}, ${stops.join(", ")})`;
}
