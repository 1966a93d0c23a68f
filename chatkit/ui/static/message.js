// One message as an element. A question is set as text; an answer is HTML made safe by the server.

import {clamp, copyButton, dress, dressWhole} from "./content.js"
import {dateLanguage} from "./shared.js"
import {reasons} from "./sheets.js"

export const make = (tag, name, text = "") => {
  const element = document.createElement(tag)
  element.className = name
  element.textContent = text
  return element
}

const ICONS = {
  send: "M12 20V5M5 11.5 12 4.5l7 7",
  stop: "M7 7h10v10H7z",
  retry: "M20 12a8 8 0 1 1-2.3-5.6M20 3v5h-5",
  newest: "M12 4v15M5 12.5l7 7 7-7",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  attach: "M20 11l-8.500 8.500a5 5 0 0 1-7-7L13 4a3.300 3.300 0 0 1 4.700 4.700l-8.200 8.200a1.700 1.700 0 0 1-2.400-2.400L14 7.500",
  remove: "M6 6l12 12M18 6L6 18",
  fork: "M7 4v6a4 4 0 0 0 4 4h6M13 10l4 4-4 4M7 10v10",
  bin: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  wrap: "M4 6h16M4 12h13a3 3 0 0 1 0 6h-4m2-2-2 2 2 2M4 18h5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  before: "M14 6l-6 6 6 6",
  after: "M10 6l6 6-6 6",
  up: "M7 11v9H4v-9zM7 12l4-8c2 0 2.5 1.500 2 3l-.7 3H19c1.500 0 2 1 1.700 2.200l-1.500 6c-.3 1.200-1 1.800-2.200 1.800H7",
  down: "M17 13V4h3v9zM17 12l-4 8c-2 0-2.500-1.500-2-3l.7-3H5c-1.500 0-2-1-1.700-2.200l1.500-6C5.100 4.600 5.800 4 7 4h10",
}

const drawing = icon => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`

export const button = (name, label, press) => {
  const element = make("button", name)
  element.type = "button"
  element.title = label
  element.setAttribute("aria-label", label)
  element.innerHTML = drawing(name)
  element.addEventListener("click", press)
  return element
}

export const wordButton = (name, text, press) => {
  const element = make("button", `word ${name}`, text)
  element.type = "button"
  element.addEventListener("click", press)
  return element
}

const KINDS = {user: "question", assistant: "answer"}

function branches({id, role, siblings}, act) {
  if (siblings.length < 2) { return [] }
  const at = siblings.indexOf(id)
  const go = (name, label, to) => {
    const element = button(name, `${label} ${KINDS[role]}`, () => act.branch(siblings[to]))
    element.disabled = to < 0 || to >= siblings.length
    return element
  }
  const nav = make("span", "branches")
  nav.append(
    go("before", "Previous", at - 1),
    make("span", "place", `${at + 1}/${siblings.length}`),
    go("after", "Next", at + 1),
  )
  return [nav]
}

function problem(sentence, ...buttons) {
  const element = make("div", "problem")
  element.append(make("p", "sentence", sentence), ...buttons)
  return element
}

// Nothing brings a deleted branch back, so it is asked once more.
function binButton(element, bubble, act) {
  const ask = () => {
    if (element.querySelector(".sure")) { return }
    const close = () => {
      box.remove()
      element.querySelector(".bin")?.focus()
    }
    const keep = wordButton("keep", "Keep", close)
    const box = problem(
      "Delete this message and everything that came after it?",
      wordButton("sure-delete", "Delete", () => { box.remove(); act.remove(bubble.id) }),
      keep,
    )
    box.classList.add("sure")
    box.addEventListener("keydown", event => {
      if (event.key === "Escape") { event.stopPropagation(); close() }
    })
    element.append(box)
    keep.focus()
  }
  return button("bin", "Delete from here on", ask)
}

// The hour, or the day too when it was another one; all of it where one points or hears.
function moment(seconds) {
  const element = make("time", "time")
  element.dateTime = new Date(1000 * seconds).toISOString()
  tellMoment(element)
  return element
}

export function tellMoment(element) {
  const at = new Date(element.dateTime)
  const today = at.toDateString() === new Date().toDateString()
  const short = today ? {timeStyle: "short"} : {dateStyle: "medium", timeStyle: "short"}
  const exact = {dateStyle: "full", timeStyle: "long"}
  element.textContent = new Intl.DateTimeFormat(dateLanguage(), short).format(at)
  element.title = new Intl.DateTimeFormat(dateLanguage(), exact).format(at)
}

function question(element, bubble, act) {
  const text = make("div", "text", bubble.text)
  const foot = make("footer", "foot")
  foot.append(
    ...branches(bubble, act),
    button("edit", "Edit", () => edit(element, bubble, act)),
    binButton(element, bubble, act),
    moment(bubble.created),
  )
  element.append(text, foot)
  clamp(element, text, "user")
}

function edit(element, bubble, act) {
  const field = make("textarea", "field")
  let due = 0
  const close = () => {
    box.remove()
    element.classList.remove("editing")
    element.querySelector(".edit").focus()
    act.edited()
  }
  // While an answer is on its way, here or in another tab, the question waits for its turn.
  const send = () => {
    clearTimeout(due)
    if (!field.value.trim() || !box.isConnected) { return }
    if (act.edit(bubble.id, field.value)) { close() } else { due = setTimeout(send, 300) }
  }
  field.rows = 1
  field.value = bubble.text
  field.setAttribute("aria-label", "Edited message")
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      send()
    } else if (event.key === "Escape") {
      event.stopPropagation()
      close()
    }
  })
  const box = make("div", "editor")
  const row = make("div", "row")
  row.append(wordButton("cancel", "Cancel", close), wordButton("ask", "Ask", send))
  box.append(field, row)
  element.classList.add("editing")
  element.append(box)
  field.style.height = `${field.scrollHeight}px`
  field.focus()
}

function leftOut([heading, ...reasons]) {
  if (!heading) { return [] }
  const element = make("details", "left-out")
  const list = make("ul", "reasons")
  list.append(...reasons.map(reason => make("li", "reason", reason)))
  element.append(make("summary", "heading", heading), list)
  return [element]
}

// What links lead to is text of strangers: it is set as text.
function previews(bubble) {
  if (!bubble.previews.length) { return [] }
  const list = make("ul", "previews")
  list.setAttribute("aria-label", "What links lead to")
  list.append(...bubble.previews.map(({url, site, title, text}) => {
    const [item, link] = [make("li", ""), make("a", "preview")]
    Object.assign(link, {href: url, target: "_blank", rel: "noopener noreferrer nofollow"})
    link.append(make("span", "site", site), make("strong", "", title), make("span", "about", text))
    item.append(link)
    return item
  }))
  return [list]
}

function answer(element, bubble, act) {
  const [ended, tail] = [make("div", "part ended"), make("div", "part tail")]
  ended.innerHTML = bubble.html
  tail.innerHTML = bubble.tail
  const text = make("div", "text")
  text.append(ended, tail)
  element.append(...leftOut(bubble.leftOut), text)
  element.steps = bubble.steps
  element.maths = act.maths
  if (element.classList.contains("pending")) {
    dress(text, act.maths)
  } else {
    dressWhole(text, act.maths)
    clamp(element, text, "assistant")
  }
  if (bubble.state === "queued") { element.append(make("p", "waiting", "Waiting for the model")) }
  if (bubble.error) {
    const again = wordButton("again", "Try again", () => act.regenerate(bubble.id))
    element.append(problem(bubble.error, again))
  }
  element.append(...previews(bubble))
  const foot = make("footer", "foot")
  if (!element.classList.contains("pending")) {
    const thumb = (name, label) => {
      const pressed = bubble.thumb === name
      const one = button(name, label, () => {
        act.thumb(bubble.id, pressed ? null : name)
        if (!pressed) { ask(element, {...bubble, thumb: name}, act) }
      })
      one.setAttribute("aria-pressed", String(pressed))
      return one
    }
    foot.append(
      ...branches(bubble, act),
      button("retry", "Answer again", () => act.regenerate(bubble.id)),
      copyButton("Copy", () => text.innerText),
      thumb("up", "Good answer"),
      thumb("down", "Bad answer"),
      button("fork", "Go on in another conversation", () => act.fork(bubble.id)),
      binButton(element, bubble, act),
      moment(bubble.created),
      make("span", "note", bubble.note),
    )
  }
  element.append(foot)
}

// The page shows the answer anew when the thumb is stored; the form stays open over that.
const asking = new Map()

function ask(element, bubble, act) {
  const close = () => {
    asking.get(bubble.id)?.remove()
    asking.delete(bubble.id)
  }
  close()
  const form = reasons(bubble, act, close)
  asking.set(bubble.id, form)
  element.append(form)
}

export function message(bubble, act) {
  const pending = bubble.state === "queued" || bubble.state === "streaming"
  const element = make("article", `message ${bubble.role}`)
  element.classList.toggle("pending", pending)
  element.dataset.id = bubble.id
  element.setAttribute("aria-label", bubble.role === "user" ? "You" : "Assistant")
  if (bubble.role === "user") { question(element, bubble, act) } else { answer(element, bubble, act) }
  if (asking.has(bubble.id)) { element.append(asking.get(bubble.id)) }
  return element
}

// False when the element is not what the growth follows upon.
export function grow(element, {html, tail, steps}) {
  if (element.steps >= steps) { return true }
  if (element.steps !== steps - 1) { return false }
  element.steps = steps
  element.querySelector(".ended").insertAdjacentHTML("beforeend", html)
  element.querySelector(".tail").innerHTML = tail
  dress(element.querySelector(".text"), element.maths)
  return true
}

// A question that the server has not stored yet.
export function unsent(entry, act) {
  const element = make("article", "message user unsent")
  element.setAttribute("aria-label", "You")
  element.append(make("div", "text", entry.text))
  if (entry.sentence) {
    element.append(problem(
      entry.sentence,
      wordButton("again", "Send again", () => act.sendAgain(entry.id)),
      wordButton("discard", "Discard", () => act.discard(entry.id)),
    ))
  } else {
    element.append(make("p", "waiting", "Sending"))
  }
  return element
}
