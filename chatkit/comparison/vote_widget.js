/** Votes on two answers: keys 1, 0, 2 or the arrows, s skips, u goes back. */

const CHOICES = [
  { choice: "left", label: "Left is better", keys: ["1", "ArrowLeft"], hint: "1 or ←" },
  { choice: "tie", label: "Neither", keys: ["0", "ArrowDown"], hint: "0 or ↓" },
  { choice: "right", label: "Right is better", keys: ["2", "ArrowRight"], hint: "2 or →" },
  { choice: "skip", label: "Skip", keys: ["s"], hint: "s" },
  { choice: "undo", label: "Back", keys: ["u"], hint: "u" },
];

function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function answer(label) {
  const text = element("div", { class: "text", tabindex: "0", role: "article", "aria-label": label });
  return { text, card: element("section", {}, [text]) };
}

function render({ model, el }) {
  const status = element("p", { class: "status", role: "status" });
  const question = element("p", { class: "question" });
  const left = answer("Left answer");
  const right = answer("Right answer");
  const sides = element("div", { class: "sides" }, [left.card, right.card]);
  const buttons = CHOICES.map(({ choice, label, hint }) => {
    const button = element("button", { type: "button", "data-choice": choice }, [
      label, " ", element("kbd", {}, [hint]),
    ]);
    button.addEventListener("click", () => model.send({ choice }));
    return button;
  });
  const bar = element("div", { class: "bar", role: "group", "aria-label": "Vote" }, buttons);
  const result = element("div", { class: "result" });
  const error = element("p", { class: "error", role: "alert" });
  const root = element(
    "div",
    { class: "chatkit-vote", tabindex: "0", role: "region", "aria-label": "Blind vote" },
    [status, question, sides, bar, result, error],
  );

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const found = CHOICES.find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    // The notebook has commands on the same keys.
    event.preventDefault();
    event.stopPropagation();
    model.send({ choice: found.choice });
  });

  function show() {
    const pair = model.get("pair");
    const open = pair.place < pair.count;
    status.textContent = open
      ? `Pair ${pair.place + 1} of ${pair.count}`
      : "No prompt has two different answers that wait for a vote.";
    question.textContent = pair.question ?? "";
    // The HTML was made safe where it was written: it formats text and can do nothing else.
    left.text.innerHTML = pair.left ?? "";
    right.text.innerHTML = pair.right ?? "";
    left.text.scrollTop = right.text.scrollTop = 0;
    sides.hidden = question.hidden = !open;
    for (const button of buttons) {
      button.disabled = button.dataset.choice === "undo" ? pair.place === 0 : !open;
    }
    result.innerHTML = model.get("result");
    error.textContent = model.get("error");
  }

  for (const name of ["pair", "result", "error"]) model.on(`change:${name}`, show);
  show();
  el.append(root);
  root.focus({ preventScroll: true });
  return () => {
    for (const name of ["pair", "result", "error"]) model.off(`change:${name}`, show);
  };
}

export default { render };
