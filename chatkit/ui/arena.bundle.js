// The arena. What the server sends: round, put, grow, result. What it is sent: arena (ask, stop,
// vote), leave.

import {dress, dressWhole} from "../../../../static/extensions/chatkit/content.js"
import {make, wordButton} from "../../../../static/extensions/chatkit/message.js"
import {here, preferred} from "../../../../static/extensions/chatkit/shared.js"

const FEWEST = 2
const MOST = 4

function render({model}) {
  const root = make("div", "arena")
  const head = make("div", "head")
  const choices = make("fieldset", "models")
  const columns = make("div", "columns")
  const question = make("p", "question")
  const bar = make("div", "votes")
  const status = make("p", "status")
  const field = make("textarea", "field")
  const maths = model.maths && new URL(model.maths, document.baseURI).href
  let voted = true
  let names = []

  const tell = wish => model.send_msg({type: "arena", ...wish})
  const label = (kind, text) => {
    const [one, box] = [make("label", "choice"), make("input", "")]
    box.type = "checkbox"
    one.append(box, make("span", "", text))
    return [one, box]
  }
  choices.append(make("legend", "", "Models"))
  const boxes = model.models.map((name, place) => {
    const [one, box] = label("checkbox", name)
    box.value = name
    box.checked = place < FEWEST
    choices.append(one)
    return box
  })
  const [blindLabel, blind] = label("checkbox", "Hide the names until the vote")
  blind.checked = true
  const close = wordButton("leave", "Back to the chat", () => model.send_msg({type: "leave"}))
  head.append(make("h1", "heading", "Compare models"), close, choices, blindLabel)

  const pending = () => columns.querySelector(".pending") !== null
  const update = () => {
    const whole = columns.children.length && !pending()
    bar.hidden = voted || !whole || columns.querySelector(".problem") !== null
    stop.hidden = !pending()
    ask.disabled = pending()
  }
  const send = () => {
    const models = boxes.filter(box => box.checked).map(box => box.value)
    if (models.length < FEWEST || models.length > MOST) {
      status.textContent = `Choose ${FEWEST} to ${MOST} models.`
    } else if (field.value.trim() && !pending()) {
      status.textContent = ""
      tell({do: "ask", models, text: field.value, blind: blind.checked})
      field.value = ""
    }
  }
  const ask = wordButton("ask", "Ask all", send)
  const stop = wordButton("stop-all", "Stop", () => tell({do: "stop"}))
  field.rows = 2
  field.placeholder = "The same question to all of them"
  field.setAttribute("aria-label", "Question to all models")
  field.addEventListener("keydown", event => {
    const sends = preferred().enter_sends ? !event.shiftKey : event.ctrlKey || event.metaKey
    if (event.key === "Enter" && sends && !event.isComposing) {
      event.preventDefault()
      send()
    }
  })
  status.setAttribute("role", "status")
  bar.setAttribute("role", "group")
  bar.setAttribute("aria-label", "Vote")

  const article = (name, bubble) => {
    const waits = bubble.state === "queued" || bubble.state === "streaming"
    const element = make("article", "column")
    const text = make("div", "text")
    const [ended, tail] = [make("div", "part ended"), make("div", "part tail")]
    ended.innerHTML = bubble.html
    tail.innerHTML = bubble.tail
    text.append(ended, tail)
    element.classList.toggle("pending", waits)
    element.setAttribute("aria-label", name)
    element.append(make("h2", "name", name), text)
    element.steps = bubble.steps
    if (waits) { dress(text, maths) } else { dressWhole(text, maths) }
    if (bubble.error) { element.append(make("p", "problem", bubble.error)) }
    return element
  }
  const obey = {
    round(now) {
      names = now.names
      voted = false
      question.textContent = now.question
      columns.replaceChildren(...names.map(name =>
        article(name, {state: "queued", html: "", tail: "", steps: 0})))
      bar.replaceChildren(
        ...names.map((name, place) =>
          wordButton("best", `${name} is best`, () => tell({do: "vote", best: place}))),
        wordButton("best", "None is better", () => tell({do: "vote", best: null})))
      status.textContent = "Answering"
    },
    put({column, bubble}) {
      columns.children[column]?.replaceWith(article(names[column], bubble))
      if (!pending()) { status.textContent = "All have answered; which answer is best?" }
    },
    grow({column, html, tail, steps}) {
      const element = columns.children[column]
      if (!element || element.steps !== steps - 1) { return }
      element.steps = steps
      element.querySelector(".ended").insertAdjacentHTML("beforeend", html)
      element.querySelector(".tail").innerHTML = tail
      dress(element.querySelector(".text"), maths)
    },
    result({names: told, best, notes}) {
      voted = true
      names = told
      ;[...columns.children].forEach((element, place) => {
        element.querySelector(".name").textContent = told[place]
        element.setAttribute("aria-label", told[place])
        element.classList.toggle("chosen", place === best)
        element.append(make("p", "note", notes[place] ?? ""))
      })
      const said = best === null ? "No answer was found better." : `${told[best]} was found best.`
      status.textContent = `${said} The vote is stored.`
    },
  }
  const paint = () => root.classList.toggle("contrast", preferred().theme === "contrast")
  here.listen(paint)
  paint()
  model.on("msg:custom", event => { obey[event.op](event); update() })
  model.on("remove", () => here.forget(paint))
  const row = make("div", "row")
  row.append(field, ask, stop)
  root.append(head, question, columns, status, bar, row)
  update()
  return root
}

export default {render}
