// The path field: it proposes what may run in a batch, as the combobox pattern of WAI-ARIA has it.

const proposals = Object.entries(known.routes).flatMap(([path, methods]) =>
  methods.filter((method) => method !== "HEAD" || !methods.includes("GET")).map((method) => ({ method, path })),
);
const MOST_SHOWN = 50;
let comboboxes = 0;

/** A text input that proposes routes; `chosen` is told the one that was picked. */
function pathCombobox(value, { typed, chosen }) {
  const id = `routes-${++comboboxes}`;
  let options = [];
  let active = -1;
  const list = h("ul", { role: "listbox", id, "aria-label": "Routes", hidden: true });
  const input = h("input", {
    type: "text", role: "combobox", class: "mono", "aria-label": "Path", "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": id, autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "/path",
    input: () => { typed(input.value); open(input.value); },
    click: () => open(""),
    keydown: pressed,
    blur: close,
  });
  input.value = value;

  function open(text) {
    // Every word that was typed must stand somewhere in "GET /tasks/{gid}".
    const words = text.toLowerCase().split(/\s+/);
    options = proposals.filter(({ method, path }) => words.every((word) => `${method} ${path}`.toLowerCase().includes(word)));
    options = options.slice(0, MOST_SHOWN);
    list.replaceChildren(...options.map((option, index) =>
      h("li", { role: "option", id: `${id}-${index}`, "aria-selected": "false", pointerdown: (event) => picked(event, option) },
        h("span", { class: `method ${option.method}` }, option.method), h("span", { class: "mono" }, option.path))));
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    activate(-1);
  }

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function activate(index) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = index;
    const option = list.children[active];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function picked(event, option) {
    // The focus stays where it is.
    event.preventDefault();
    pick(option);
  }

  function pick(option) {
    input.value = option.path;
    close();
    chosen(option);
  }

  function pressed(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (event.altKey) return;
      event.preventDefault();
      if (list.hidden) open("");
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (options.length > 0) activate((active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length);
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && active >= 0 && !list.hidden) {
      event.preventDefault();
      pick(options[active]);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  }

  return { input, box: h("div", { class: "combobox" }, input, list) };
}
