// The list of actions to compose: a card for each, in the order in which they will be answered.

/** The cards in order: each has its `action`, its `element`, and what else this module needs of it. */
const cards = [];
let cardNames = 0;

function composed() {
  return cards.map((card) => card.action);
}

function compose(actions) {
  cards.splice(0, cards.length, ...actions.map(makeCard));
  $("actions").replaceChildren(...cards.map((card) => card.element));
  renumber();
}

function makeCard(action) {
  const name = `card-${++cardNames}`;
  const fields = new Map();
  const card = { action, fields };
  const parameters = h("div", { class: "parameters" });
  const method = h("select", { class: "method", "aria-label": "Method", change: () => set("method", method.value) },
    ...METHODS.map((each) => h("option", {}, each)));
  const path = pathCombobox(action.path, {
    typed: (text) => { set("path", text); showParameters(); },
    chosen: (route) => {
      set("method", route.method);
      set("path", route.path);
      showParameters();
      parameters.querySelector("input")?.focus();
    },
  });
  const faultOfPath = addField("path", path.input);

  function set(key, value) {
    action[key] = value;
    if (key === "method") {
      method.value = value;
      method.className = `method ${value}`;
      data.placeholder = BODYLESS.includes(value) ? "{ } becomes the query" : "{ } becomes the body";
    }
    recheck(card);
  }

  /** The place for what is wrong with a field, which is shown when the field is left, and gone as soon as it is put right. */
  function addField(key, input) {
    const fault = h("p", { class: "fault", id: `${name}-${key.replace(/\W/g, "_")}`, hidden: true });
    input.setAttribute("aria-describedby", fault.id);
    input.addEventListener("blur", () => { if (input.value !== "") check(card, key); });
    fields.set(key, { input, fault });
    return fault;
  }

  function showParameters() {
    const names = parametersOf(action.path);
    for (const key of [...fields.keys()]) if (key[0] === "{") fields.delete(key);
    parameters.replaceChildren(...names.map((parameter) => {
      const input = h("input", { type: "text", class: "mono", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
        input: () => { action.values[parameter] = input.value; recheck(card); } });
      input.value = action.values[parameter] ?? "";
      const label = h("label", {}, h("span", { class: "mono" }, parameter), input);
      return h("div", { class: "parameter" }, label, addField(`{${parameter}}`, input));
    }));
    parameters.hidden = names.length === 0;
  }

  function jsonArea(key) {
    const area = h("textarea", { rows: 1, class: "mono", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      placeholder: "{ } fields …", input: () => set(key, area.value) });
    area.value = action[key];
    return area;
  }

  function jsonField(key, area) {
    return h("div", { class: "json" }, h("label", {}, h("span", {}, key), area), addField(key, area));
  }

  const data = jsonArea("data");
  const title = h("span", { class: "number", "aria-hidden": "true" });
  const up = iconButton("up", "Move up", () => move(card, -1));
  const down = iconButton("down", "Move down", () => move(card, 1));
  const remove = iconButton("remove", "Remove", () => removeCard(card));
  const group = h("div", { role: "group", class: "action", keydown: (event) => {
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      move(card, event.key === "ArrowUp" ? -1 : 1, event.target);
    }
  } },
    h("div", { class: "line" }, title, method, path.box,
      h("div", { class: "tools" }, up, down, iconButton("copy", "Duplicate", () => insert(card.index + 1, action)), remove)),
    faultOfPath, parameters,
    h("div", { class: "texts" }, jsonField("data", data), jsonField("options", jsonArea("options"))));
  Object.assign(card, { group, title, up, down, remove, element: h("li", {}, group) });
  set("method", action.method);
  showParameters();
  return card;
}

function show({ input, fault }, text) {
  fault.hidden = !text;
  fault.textContent = text ?? "";
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

function check(card, key) {
  const field = card.fields.get(key);
  if (field) show(field, faultsOf(card.action)[key]);
}

/** Take back what is put right by now. */
function recheck(card) {
  for (const [key, field] of card.fields) if (!field.fault.hidden) check(card, key);
}

/** Show all that is wrong, and go to the first of it. True where there is nothing. */
function checkAll() {
  let first = null;
  let count = 0;
  for (const card of cards) {
    const faults = faultsOf(card.action);
    count += Object.keys(faults).length;
    for (const [key, field] of card.fields) {
      show(field, faults[key]);
      if (faults[key] && first === null) first = field.input;
    }
  }
  first?.focus();
  if (first !== null) announce(`Not run: ${count} ${count === 1 ? "field needs" : "fields need"} your attention`);
  return first === null;
}

function renumber() {
  cards.forEach((card, index) => {
    card.index = index;
    card.title.textContent = index + 1;
    card.group.setAttribute("aria-label", `Action ${index + 1}`);
    card.up.disabled = index === 0;
    card.down.disabled = index === cards.length - 1;
  });
  $("count").textContent = `${cards.length} of ${known.limit} actions`;
  $("add").disabled = cards.length >= known.limit;
  $("full").hidden = cards.length < known.limit;
}

function insert(index, action = {}) {
  if (cards.length >= known.limit) {
    announce(`A batch takes ${known.limit} actions`);
    return;
  }
  const card = makeCard(newAction(action));
  $("actions").insertBefore(card.element, cards[index]?.element ?? null);
  cards.splice(index, 0, card);
  renumber();
  card.fields.get("path").input.focus();
  announce(`Action ${index + 1} added`);
}

function move(card, step, focused = step < 0 ? card.up : card.down) {
  const index = card.index + step;
  if (index < 0 || index >= cards.length) return;
  cards.splice(card.index, 1);
  cards.splice(index, 0, card);
  $("actions").insertBefore(card.element, cards[index + 1]?.element ?? null);
  renumber();
  (focused.disabled ? (step < 0 ? card.down : card.up) : focused).focus();
  announce(`Now action ${index + 1}`);
}

function removeCard(card) {
  cards.splice(card.index, 1);
  card.element.remove();
  renumber();
  (cards[Math.min(card.index, cards.length - 1)]?.remove ?? $("add")).focus();
  announce(`Removed; ${$("count").textContent}`);
}
