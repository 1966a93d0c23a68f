// The messages and the composer. What the server sends: show, put, grow, place, refuse, trouble.
// What it is sent: ready, visible, begin, send, edit, regenerate, stop, branch, thumb, fork, delete branch, older, newer,
// newest, again.

import {composer} from "../../../../static/extensions/chatkit/composer.js"
import {keepFor, newId, outbox, reloads, visitor} from "../../../../static/extensions/chatkit/kept.js"
import {button, grow, make, message, tellMoment, unsent, wordButton} from "../../../../static/extensions/chatkit/message.js"
import {aboveKeyboard, installable, swipes} from "../../../../static/extensions/chatkit/phone.js"
import {keySheet, promptSheet} from "../../../../static/extensions/chatkit/sheets.js"
import {focusIsTaken, nameShell, showSidebar} from "../../../../static/extensions/chatkit/shell.js"
import {dateLanguage, here, isDark, preferred} from "../../../../static/extensions/chatkit/shared.js"

const LOST = "The connection to the server was lost; trying again."
const LONGEST_PAUSE_SECONDS = 10
// So wide, the page has room for the conversations beside the one that is shown.
const WIDE = 1_100
// So narrow, they cover it.
const NARROW = 600
const LONG_ANSWER_MS = 3_000
const MANY = 60
// So near to the end of what is there, more is asked for.
const NEAR = 1_200

// The store has everything, so a page that lost its server begins anew as soon as it answers.
async function comeBack() {
  let pause = reloads.secondsAgo() < LONGEST_PAUSE_SECONDS ? LONGEST_PAUSE_SECONDS : 1
  for (;;) {
    await new Promise(done => setTimeout(done, 1000 * pause))
    pause = Math.min(2 * pause, LONGEST_PAUSE_SECONDS)
    try {
      const answer = await fetch(import.meta.url, {cache: "no-store"})
      if (answer.ok) { break }
    } catch { /* not there yet */ }
  }
  reloads.note()
  location.reload()
}

// Tells of an answer that took a while, to somebody who looks at something else by now.
function notify(begun, text) {
  const long = Date.now() - begun > LONG_ANSWER_MS
  if (document.hidden && long && preferred().notifies && window.Notification?.permission === "granted") {
    const note = new Notification("The answer is there", {body: text.slice(0, 200), tag: "chatkit"})
    note.onclick = () => { window.focus(); note.close() }
  }
}

function render({model, view}) {
  const root = make("div", "chat")
  const log = make("div", "log")
  const title = make("h1", "said", "New chat")
  const hint = make("p", "hint", model.hint)
  const list = make("div", "list")
  const unsentList = make("div", "unsents")
  const said = make("div", "said")
  const trouble = make("p", "lost")
  const lost = make("p", "lost")
  const sent = new Set()
  const gone = new AbortController()
  const secret = make("p", "secret", "Temporary chat: in no list and no file; it ends with the server.")
  keepFor(model.owner)
  let conversation = here.conversation
  let shown = null
  let answering = false
  let asking = false
  let loading = false
  let held = false
  let below = false
  let head = ""
  let begun = 0
  let dark = null
  let language = dateLanguage()

  log.setAttribute("role", "log")
  log.setAttribute("aria-live", "off")
  log.tabIndex = 0
  said.setAttribute("role", "status")
  for (const one of [trouble, lost]) { one.setAttribute("role", "alert") }

  const tell = wish => model.send_msg({conversation, ...wish})
  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60
  const toEnd = () => { log.scrollTop = log.scrollHeight }
  const find = id => list.querySelector(`[data-id="${CSS.escape(id)}"]`)
  const busy = () => answering || outbox.of(conversation).some(entry => !entry.sentence)
  // Not while somebody edits: what they look at would go.
  const load = type => {
    if (loading || list.querySelector(".editing")) { return }
    loading = true
    tell({type})
  }
  const newest = button("newest", "Go to the newest message", () => {
    if (below) { load("newest") } else { toEnd() }
  })
  const older = wordButton("older", "Earlier messages", () => load("older"))
  const newer = wordButton("older", "Later messages", () => load("newer"))
  // Who comes near to the oldest or newest message that is there gets more of them.
  const loadNear = () => {
    const under = log.scrollHeight - log.scrollTop - log.clientHeight
    if (shown === null || log.scrollHeight <= log.clientHeight) { return }
    if (below && under < NEAR) { load("newer") } else if (!older.hidden && log.scrollTop < NEAR) { load("older") }
  }

  const act = {
    maths: model.maths && new URL(model.maths, document.baseURI).href,
    send(text) {
      if (busy()) { return false }
      const parent = (below ? head : list.lastElementChild?.dataset.id) ?? null
      return post({kind: "send", parent, text})
    },
    edit: (node, text) => !busy() && post({kind: "edit", node, text}),
    // What happened elsewhere meanwhile is shown now.
    edited() {
      if (held) { tell({type: "again"}) }
      held = false
    },
    regenerate(node) { if (!busy()) { tell({type: "regenerate", id: newId(), node}) } },
    branch(node) { if (!busy()) { tell({type: "branch", node}) } },
    thumb(node, thumb, tags = [], comment = "") {
      tell({type: "thumb", node, thumb, tags, comment})
    },
    remove(node) { if (!busy()) { tell({type: "delete branch", node}) } },
    fork(node) { tell({type: "fork", node}) },
    fresh: temporary => model.send_msg({type: "new", temporary}),
    retry() {
      const last = [...list.querySelectorAll(".assistant")].at(-1)
      if (last) { act.regenerate(last.dataset.id) }
    },
    editLast() {
      if (!busy()) { [...list.querySelectorAll(".user .edit")].at(-1)?.click() }
    },
    newId,
    count: (id, text) => model.send_msg({type: "count", of: id, text}),
    prefer: values => model.send_msg({type: "library", do: "prefer", values}),
    help: () => help.showModal(),
    prompts() {
      prompts.show()
      prompts.box.showModal()
    },
    stop() {
      for (const one of list.querySelectorAll(".pending")) {
        tell({type: "stop", node: one.dataset.id})
      }
    },
    sendAgain(id) {
      outbox.change(id, {sentence: ""})
      sent.delete(id)
      deliver()
    },
    discard(id) {
      outbox.remove(id)
      deliver()
    },
  }
  const post = entry => {
    outbox.add({...entry, id: newId(), conversation})
    deliver()
    toEnd()
    return true
  }
  // Sends what is not stored yet; sent twice it is still one message.
  const deliver = () => {
    const entries = outbox.of(conversation)
    unsentList.replaceChildren(...entries.map(entry => unsent(entry, act)))
    const entry = entries.find(one => !one.sentence && !sent.has(one.id))
    if (entry && shown !== null && !lost.textContent) {
      sent.add(entry.id)
      const {kind, id, text, parent = null, node = ""} = entry
      tell(conversation ? {type: kind, id, text, parent, node} : {type: "begin", id})
    }
    update()
  }

  const update = () => {
    const pending = list.querySelector(".pending") !== null
    if (pending !== answering) {
      answering = pending
      const last = list.querySelector(".assistant:last-child .text")
      const end = last && preferred().speaks ? `Answer: ${last.innerText}` : "Answered"
      said.textContent = pending ? "Answering" : last ? end : ""
      if (pending) { begun = Date.now() } else if (last) { notify(begun, last.innerText) }
    }
    root.classList.toggle("answering", answering)
    root.classList.toggle("busy", busy())
    const known = shown !== null || !conversation
    const empty = known && !list.children.length && !unsentList.children.length
    root.classList.toggle("empty", empty)
    newest.hidden = atEnd() && !below
  }
  // The first message of which something is seen.
  const inSight = () => {
    const top = log.getBoundingClientRect().top
    return [...list.children].find(one => one.getBoundingClientRect().bottom > top)
  }
  // Keeps the end in sight, or else what is looked at where it is.
  const steadily = change => {
    const follow = atEnd() && !below
    const anchor = follow ? null : inSight()
    const id = anchor?.dataset.id
    const top = anchor?.getBoundingClientRect().top
    change()
    const now = anchor?.isConnected ? anchor : id && find(id)
    if (follow) {
      toEnd()
    } else if (now) {
      log.scrollTop += now.getBoundingClientRect().top - top
    }
    update()
  }
  const put = bubble => {
    const before = find(bubble.id)
    if (before?.classList.contains("editing")) {
      held = true
      return before
    }
    const element = message(bubble, act)
    const focused = before?.contains(root.getRootNode().activeElement)
      && root.getRootNode().activeElement.className
    before?.replaceWith(element)
    if (focused) { element.querySelector(`button.${CSS.escape(focused)}`)?.focus() }
    return element
  }
  const arrange = (ids, made) => {
    const wanted = ids.map(id => made.get(id) ?? find(id)).filter(Boolean)
    for (const one of [...list.children]) { if (!wanted.includes(one)) { one.remove() } }
    let at = list.firstElementChild
    for (const one of wanted) {
      if (one === at) { at = at.nextElementSibling } else { list.insertBefore(one, at) }
    }
    list.classList.toggle("many", ids.length > MANY)
    if (wanted.length < ids.length) { askAgain() }
  }
  const askAgain = () => {
    if (!asking) { tell({type: "again"}) }
    asking = true
  }
  const obey = {
    show(now) {
      const other = now.conversation !== shown
      const edited = list.querySelector(".editing")
      // Another tab that goes elsewhere does not take away what is being written here.
      if (edited && !other && !now.accepted && !now.ids.includes(edited.dataset.id)) {
        held = true
        loading = false
        return
      }
      asking = loading = false
      // The first page has its address already, and what is gone leaves no step behind.
      here.show(now.conversation, {replace: shown === null})
      conversation = shown = now.conversation
      secret.hidden = !now.temporary
      document.title = now.title ? `${now.title} · chatkit` : "chatkit"
      title.textContent = now.title || "New chat"
      if (now.accepted) { outbox.remove(now.accepted) }
      const made = new Map(now.bubbles.map(bubble => [bubble.id, put(bubble)]))
      const jump = other || (below && !now.below && !now.ids.some(find))
      steadily(() => {
        arrange(now.ids, made)
        below = now.below
        head = now.head
        older.hidden = !now.more
        newer.hidden = !below
      })
      deliver()
      if (other) { typing.turnTo(now.conversation) }
      if (jump) { toEnd() }
      // One page may not fill what is near.
      requestAnimationFrame(loadNear)
      if (other) {
        // On a phone this would bring up the keyboard.
        const keyboard = matchMedia("(hover: hover)").matches
        if (keyboard && !focusIsTaken(typing.field)) { typing.field.focus() }
      }
    },
    put({bubble}) { if (find(bubble.id)) { steadily(() => put(bubble)) } },
    grow(growth) {
      const element = find(growth.id)
      steadily(() => { if (element && !grow(element, growth)) { askAgain() } })
    },
    place({id, conversation: begun}) {
      const entry = outbox.settle(id, begun)
      if (!entry) { return }
      conversation = shown = entry.conversation
      typing.takeAlong(conversation)
      here.show(conversation, {replace: true})
      sent.delete(id)
      deliver()
    },
    refuse({id, sentence}) {
      if (!outbox.has(id)) { trouble.textContent = sentence }
      outbox.change(id, {sentence})
      steadily(deliver)
    },
    // The server sends whoever is not signed in to the sign-in, and back here afterwards.
    leave() { location.reload() },
    trouble({sentence}) {
      trouble.textContent = sentence
      loading = false
    },
    counted: ({id, tokens}) => typing.counted(id, tokens),
    meter({used, window: all}) {
      meter.hidden = !all
      meter.value = used
      meter.max = all
      const told = `${used.toLocaleString()} of ${all.toLocaleString()} tokens of the window are used`
      usedText.textContent = all ? told : ""
      meter.title = told
    },
  }

  const typing = composer(model, act)
  typing.turnTo(conversation)
  const help = keySheet()
  const prompts = promptSheet(act)
  const meter = make("meter", "meter")
  const usedText = make("p", "used")
  meter.hidden = true
  meter.setAttribute("aria-label", "Tokens used")
  document.addEventListener("keydown", event => {
    const [target] = event.composedPath()
    const writes = target.matches?.("input, textarea, select, [contenteditable]")
    if (event.key === "?" && !writes && !event.ctrlKey && !event.metaKey) {
      event.preventDefault()
      act.help()
    } else if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === "o") {
      event.preventDefault()
      act.fresh(false)
    } else if ((event.ctrlKey || event.metaKey) && event.key === "/") {
      event.preventDefault()
      typing.field.focus()
    }
  }, {signal: gone.signal})
  const moved = () => {
    newest.hidden = atEnd() && !below
    loadNear()
  }
  log.addEventListener("scroll", moved, {passive: true})
  new ResizeObserver(moved).observe(log)
  installable()
  aboveKeyboard(root, steadily, gone.signal)
  for (const opens of [true, false]) {
    const tell = () => { if (opens || window.innerWidth < NARROW) { showSidebar(root, opens) } }
    swipes(window, {opens, tell}, gone.signal)
  }
  const look = () => tell({type: "visible", visible: !document.hidden})
  document.addEventListener("visibilitychange", look, {signal: gone.signal})
  window.addEventListener("popstate", () => {
    const wanted = new URL(location).searchParams.get("conversation") ?? ""
    model.send_msg({type: "open", conversation: wanted})
  }, {signal: gone.signal})
  const paint = () => {
    root.classList.toggle("contrast", preferred().theme === "contrast")
    root.classList.toggle("still", preferred().still)
    if (language !== dateLanguage()) {
      language = dateLanguage()
      root.querySelectorAll("time").forEach(tellMoment)
    }
    if (prompts.box.open) { prompts.show() }
    if (dark !== isDark()) {
      dark = isDark()
      model.send_msg({type: "dark", dark})
    }
  }
  here.listen(paint)
  paint()
  // A page that is left says nothing more: nobody would hear the reply.
  window.addEventListener("pagehide", () => gone.abort(), {signal: gone.signal})
  model.on("msg:custom", event => obey[event.op](event))
  model.on("remove", () => { gone.abort(); here.forget(paint) })
  view.model.document.on_event("connection_lost", () => {
    if (lost.textContent) { return }
    lost.textContent = LOST
    comeBack()
  })

  older.hidden = true
  newer.hidden = true
  secret.hidden = true
  log.append(hint, secret, older, list, newer, unsentList)
  const foot = make("div", "bottom")
  const gauge = make("div", "gauge")
  gauge.append(meter, usedText)
  foot.append(newest, trouble, lost, typing.box, gauge)
  root.append(title, log, foot, said, help, prompts.box)
  update()
  requestAnimationFrame(typing.fit)
  // Not before the page has this element in it.
  requestAnimationFrame(() => {
    const stop = nameShell(root, typing.field)
    gone.signal.addEventListener("abort", stop)
  })
  if (window.innerWidth >= WIDE) { model.send_msg({type: "wide"}) }
  model.send_msg({type: "ready", visitor: visitor(), conversation})
  return root
}

export default {render}
