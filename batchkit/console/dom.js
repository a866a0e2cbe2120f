// Building the page. Every text goes in as text: there is no innerHTML here, and the policy of the page would refuse one.

const $ = (id) => document.getElementById(id);

/** An element with attributes, listeners (what is a function) and children. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  up: "M4 10l4-4 4 4",
  down: "M4 6l4 4 4-4",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  remove: "M4 4l8 8M12 4l-8 8",
};

/** A button that shows an icon and is called `name`. */
function iconButton(icon, name, click) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[icon]);
  svg.append(path);
  return h("button", { type: "button", class: "icon", "aria-label": name, title: name, click }, svg);
}

function hiddenText(text) {
  return h("span", { class: "unseen" }, text);
}

/** Tell a screen reader. */
function announce(text) {
  $("live").textContent = text;
}

/** Let the browser draw, and answer to the person, before what follows. */
function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

function milliseconds(value) {
  if (value >= 9950) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;
}

function bytes(value) {
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${(value / 1000).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}
