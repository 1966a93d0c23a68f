// Sheets over the page: the keys, and the visitor's prompts.

import {make, wordButton} from "./message.js"
import {preferred} from "./shared.js"

const KEYS = [
  ["Enter", "Send; or Ctrl+Enter, as preferred"],
  ["Shift+Enter", "Begin a line"],
  ["Escape", "Stop the answer, close what is open"],
  ["/", "Commands and prompts, in an empty message"],
  ["↑", "Edit the last question, in an empty message"],
  ["Tab", "Go to the next {{variable}} of a prompt"],
  ["Ctrl+Shift+O", "Begin another conversation"],
  ["Ctrl+/", "Go to the message field"],
  ["?", "Show this, outside of a field"],
]

function sheet(label, content) {
  const box = make("dialog", "sheet")
  box.setAttribute("aria-label", label)
  const close = wordButton("close", "Close", () => box.close())
  // A field that gets the focus back from a sheet takes no letters in Chromium until it gets it
  // once more.
  box.addEventListener("close", () => requestAnimationFrame(() => {
    const field = box.getRootNode().activeElement
    field?.blur()
    field?.focus()
  }))
  box.append(make("h2", "", label), ...content, close)
  return box
}

export function keySheet() {
  const table = make("table", "keys")
  const body = make("tbody", "")
  for (const [key, does] of KEYS) {
    const row = make("tr", "")
    const cell = make("th", "")
    cell.scope = "row"
    cell.append(make("kbd", "", key))
    row.append(cell, make("td", "", does))
    body.append(row)
  }
  table.append(body)
  return sheet("Keys", [table])
}

export function promptSheet(act) {
  const list = make("ul", "prompts")
  const name = make("input", "prompt-name")
  const text = make("textarea", "prompt-text")
  const labelled = (label, field) => {
    const one = make("label", "labelled")
    one.append(make("span", "", label), field)
    return one
  }
  name.maxLength = 40
  text.rows = 4
  text.maxLength = 10_000
  const save = wordButton("save", "Save", () => {
    const [wanted, said] = [name.value.trim().replace(/\s+/g, "-"), text.value.trim()]
    if (!wanted || !said) { return }
    const others = preferred().prompts.filter(one => one.name !== wanted)
    act.prefer({prompts: [...others, {name: wanted, text: said}]})
    name.value = text.value = ""
  })
  const box = sheet("Prompts", [
    make("p", "hint-small", "A prompt is put into the message by its name, as in /summary. Write "
      + "{{variables}} where something is filled in."),
    list, labelled("Name", name), labelled("Text", text), save,
  ])
  const show = () => {
    list.replaceChildren(...preferred().prompts.map(prompt => {
      const item = make("li", "prompt")
      const change = wordButton("change", `/${prompt.name}`, () => {
        name.value = prompt.name
        text.value = prompt.text
        text.focus()
      })
      const others = () => preferred().prompts.filter(one => one.name !== prompt.name)
      const remove = wordButton("delete", "Delete", () => act.prefer({prompts: others()}))
      remove.setAttribute("aria-label", `Delete ${prompt.name}`)
      item.append(change, remove)
      return item
    }))
  }
  return {box, show}
}

const REASONS = {
  up: ["right", "clear", "complete", "good style"],
  down: ["wrong", "unclear", "not what I asked", "too long", "too short", "unsafe"],
}

// Why an answer is liked or not; everything in it may be left out.
export function reasons(bubble, act, close) {
  const form = make("form", "reasons-form")
  const boxes = REASONS[bubble.thumb].map(reason => {
    const [label, box] = [make("label", "choice"), make("input", "")]
    box.type = "checkbox"
    box.value = reason
    box.checked = bubble.tags.includes(reason)
    label.append(box, make("span", "", reason))
    return [label, box]
  })
  const comment = make("textarea", "field")
  comment.rows = 2
  comment.maxLength = 2_000
  comment.value = bubble.comment
  comment.setAttribute("aria-label", "Comment")
  comment.placeholder = "Anything else? (may be left empty)"
  const done = wordButton("ask", "Send", () => {})
  done.type = "submit"
  form.setAttribute("aria-label", "Why")
  form.addEventListener("submit", event => {
    event.preventDefault()
    const tags = boxes.filter(([, box]) => box.checked).map(([, box]) => box.value)
    act.thumb(bubble.id, bubble.thumb, tags, comment.value)
    close()
  })
  form.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      event.stopPropagation()
      close()
    }
  })
  const row = make("div", "row")
  row.append(wordButton("cancel", "Not now", close), done)
  const choices = make("div", "choices")
  choices.append(...boxes.map(([label]) => label))
  form.append(choices, comment, row)
  return form
}
