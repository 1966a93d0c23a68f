// The messages and the composer. A question is set as text; an answer is HTML made safe by the
// server. What the server sends: show, put, grow, busy. What it is sent: ready, send, stop, retry.

const LOST = "The connection to the server was lost; reload the page to go on."

const make = (tag, name, text = "") => {
  const element = document.createElement(tag)
  element.className = name
  element.textContent = text
  return element
}

const button = (name, label, icon, press) => {
  const element = make("button", name)
  element.type = "button"
  element.title = label
  element.setAttribute("aria-label", label)
  element.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon}"/></svg>`
  element.addEventListener("click", press)
  return element
}

const ICONS = {
  send: "M12 20V5M5 11.5 12 4.5l7 7",
  stop: "M7 7h10v10H7z",
  retry: "M20 12a8 8 0 1 1-2.3-5.6M20 3v5h-5",
  newest: "M12 4v15M5 12.5l7 7 7-7",
}

function message(bubble) {
  const element = make("article", `message ${bubble.role}`)
  element.setAttribute("aria-label", bubble.role === "user" ? "You" : "Assistant")
  element.dataset.id = bubble.id
  if (bubble.role === "user") {
    element.append(make("div", "text", bubble.text))
    return element
  }
  const [ended, tail] = [make("div", "part ended"), make("div", "part tail")]
  ended.innerHTML = bubble.html
  tail.innerHTML = bubble.tail
  const text = make("div", "text")
  text.append(ended, tail)
  element.append(text)
  element.classList.toggle("pending", bubble.pending)
  if (bubble.error) {
    element.append(make("p", "problem", bubble.error))
  }
  const foot = make("footer", "foot")
  foot.append(make("span", "note", bubble.pending ? "" : bubble.note))
  element.append(foot)
  return element
}

function grow(element, html, tail) {
  element.querySelector(".ended").insertAdjacentHTML("beforeend", html)
  element.querySelector(".tail").innerHTML = tail
}

function composer(model, act) {
  const field = make("textarea", "field")
  field.rows = 1
  field.setAttribute("aria-label", "Message")
  const fit = () => {
    field.style.height = "auto"
    field.style.height = `${field.scrollHeight}px`
  }
  const name = () => { field.placeholder = model.placeholder }
  const send = () => {
    if (field.value.trim() && act.send(field.value)) {
      field.value = ""
      fit()
    }
    field.focus()
  }
  field.addEventListener("input", fit)
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      send()
    } else if (event.key === "Escape") {
      act.stop()
    }
  })
  model.on("placeholder", name)
  name()
  const box = make("div", "composer")
  box.append(field, button("send", "Send", ICONS.send, send))
  box.append(button("stop", "Stop", ICONS.stop, () => act.stop()))
  return box
}

function render({model, view}) {
  const root = make("div", "chat")
  const log = make("div", "log")
  const hint = make("p", "hint", model.hint)
  const list = make("div", "list")
  const said = make("div", "said")
  const lost = make("p", "lost")
  let busy = false

  log.setAttribute("role", "log")
  log.setAttribute("aria-live", "off")
  log.tabIndex = 0
  said.setAttribute("role", "status")
  lost.setAttribute("role", "alert")

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60
  const toEnd = () => { log.scrollTop = log.scrollHeight }
  const find = id => list.querySelector(`[data-id="${CSS.escape(id)}"]`)
  const following = change => {
    const follow = atEnd()
    change()
    if (follow) { toEnd() }
    update()
  }
  const newest = button("newest", "Go to the newest message", ICONS.newest, toEnd)
  const retry = button("retry", "Answer again", ICONS.retry, () => {
    if (!busy) { begin({type: "retry"}) }
  })
  const update = () => {
    root.classList.toggle("busy", busy)
    root.classList.toggle("empty", !list.children.length)
    newest.hidden = atEnd()
    const last = list.querySelector(".assistant:last-child:not(.pending) .foot")
    if (last && !busy) { last.append(retry) } else { retry.remove() }
  }
  const put = bubble => {
    const before = find(bubble.id)
    const element = message(bubble)
    if (before) { before.replaceWith(element) } else { list.append(element) }
  }
  const announce = () => {
    const last = list.querySelector(".assistant:last-child")
    said.textContent = busy ? "Answering" : last ? `Answer: ${last.innerText}` : ""
  }
  const become = now => {
    const changed = busy !== now
    busy = now
    if (changed) { announce() }
  }
  // Busy at once, so that a second press does nothing; the server then says how it is.
  const begin = wish => {
    become(true)
    update()
    model.send_msg(wish)
  }
  const act = {
    send(text) {
      if (busy || lost.textContent) { return false }
      begin({type: "send", text})
      return true
    },
    stop() { if (busy) { model.send_msg({type: "stop"}) } },
  }
  const obey = {
    show({bubbles}) { list.replaceChildren(...bubbles.map(message)) },
    put({bubble}) {
      put(bubble)
      if (bubble.role === "user") { toEnd() }
    },
    grow({id, html, tail}) { if (find(id)) { grow(find(id), html, tail) } },
    busy(change) { become(change.busy) },
  }

  log.addEventListener("scroll", () => { newest.hidden = atEnd() })
  new ResizeObserver(() => { newest.hidden = atEnd() }).observe(log)
  model.on("msg:custom", event => following(() => obey[event.op](event)))
  view.model.document.on_event("connection_lost", () => { lost.textContent = LOST })

  log.append(hint, list)
  const foot = make("div", "bottom")
  foot.append(newest, lost, composer(model, act))
  root.append(log, foot, said)
  update()
  model.send_msg({type: "ready"})
  return root
}

export default {render}
