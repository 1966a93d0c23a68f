// Where one writes: grows, sends, stops, takes files, and knows commands and prompts.

import {draft} from "./kept.js"
import {button, make} from "./message.js"
import {preferred} from "./shared.js"

const LARGEST_FILE = 200_000
const MOST_TEXT = 200_000
const VARIABLE = /\{\{[^{}]{1,40}\}\}/

const COMMANDS = [
  ["new", "Begin another conversation", act => act.fresh(false)],
  ["temporary", "Begin a conversation that is not kept", act => act.fresh(true)],
  ["retry", "Answer the last question again", act => act.retry()],
  ["stop", "Stop the answer", act => act.stop()],
  ["prompts", "Write and delete prompts", act => act.prompts()],
  ["help", "Show the keys", act => act.help()],
]

const fenced = ({name, text}) => {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map(run => run.length))
  const fence = "`".repeat(longest + 1)
  return `File ${name}:\n\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`
}

export function composer(model, act) {
  const field = make("textarea", "field")
  const list = make("ul", "commands")
  const chips = make("ul", "files")
  const complaint = make("p", "complaint")
  const picker = make("input", "said")
  let files = []
  let chosen = 0
  let conversation = null

  const fit = () => {
    field.style.height = "auto"
    field.style.height = `${field.scrollHeight}px`
  }
  const set = text => {
    field.value = text
    draft.set(conversation, text)
    fit()
    suggest()
  }
  const complain = sentence => { complaint.textContent = sentence }

  const send = () => {
    const text = [...files.map(fenced), field.value.trim() ? field.value : ""].filter(Boolean).join("\n\n")
    if (text.length > MOST_TEXT) {
      complain(`This has ${text.length.toLocaleString()} characters, and a message may have `
        + `${MOST_TEXT.toLocaleString()}; make it shorter.`)
    } else if (text && act.send(text)) {
      files = []
      showFiles()
      complain("")
      set("")
    }
    field.focus()
  }

  const entries = () => {
    const typed = /^\/(\S*)$/.exec(field.value)?.[1]
    if (typed === undefined) { return [] }
    const prompts = preferred().prompts.map(({name, text}) => [name, text, () => insert(text)])
    return [...prompts, ...COMMANDS]
      .filter(([name]) => name.toLowerCase().startsWith(typed.toLowerCase())).slice(0, 12)
  }
  const insert = text => {
    set(text)
    field.focus()
    nextVariable()
  }
  const nextVariable = () => {
    const found = VARIABLE.exec(field.value)
    if (found) { field.setSelectionRange(found.index, found.index + found[0].length) }
    return Boolean(found)
  }
  const run = ([name, , does]) => {
    if (COMMANDS.some(one => one[0] === name && one[2] === does)) { set("") }
    does(act)
  }
  const suggest = () => {
    const found = entries()
    chosen = Math.min(chosen, Math.max(0, found.length - 1))
    list.replaceChildren(...found.map((one, place) => {
      const item = make("li", "command")
      item.id = `chatkit-command-${place}`
      item.setAttribute("role", "option")
      item.setAttribute("aria-selected", String(place === chosen))
      item.append(make("strong", "", `/${one[0]}`), make("span", "", one[1]))
      item.addEventListener("pointerdown", event => { event.preventDefault(); run(one) })
      return item
    }))
    list.hidden = !found.length
    if (found.length) {
      field.setAttribute("aria-activedescendant", `chatkit-command-${chosen}`)
    } else {
      field.removeAttribute("aria-activedescendant")
    }
    return found
  }

  const showFiles = () => {
    chips.replaceChildren(...files.map(file => {
      const chip = make("li", "file")
      const cost = file.tokens === undefined ? "…" : `${file.tokens.toLocaleString()} tokens`
      chip.append(make("span", "", `${file.name} · ${cost}`), button("remove", `Remove ${file.name}`, () => {
        files = files.filter(one => one !== file)
        showFiles()
        field.focus()
      }))
      return chip
    }))
  }
  const attach = async chosenFiles => {
    complain("")
    for (const file of chosenFiles) {
      if (file.size > LARGEST_FILE) {
        complain(`${file.name} has ${(file.size / 1000).toLocaleString()} kB, and a file may have `
          + `${LARGEST_FILE / 1000} kB; take a part of it.`)
        continue
      }
      let text
      try {
        text = new TextDecoder("utf-8", {fatal: true}).decode(await file.arrayBuffer())
      } catch { text = "\0" }
      if (text.includes("\0")) {
        complain(`${file.name} is no text; attach text, code or data as text.`)
        continue
      }
      // Control characters in a name could turn its letters round.
      const name = file.name.replace(/[\p{Cc}\p{Cf}]/gu, "").slice(0, 100) || "file"
      const one = {id: act.newId(), name, text}
      files.push(one)
      act.count(one.id, text)
    }
    showFiles()
  }

  const keys = event => {
    const found = list.hidden ? [] : entries()
    if (found.length && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault()
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length
      suggest()
      return
    }
    if (found.length && ["Enter", "Tab"].includes(event.key) && !event.isComposing) {
      event.preventDefault()
      run(found[chosen])
      return
    }
    if (event.key === "Tab" && !event.shiftKey && nextVariable()) {
      event.preventDefault()
      return
    }
    const sends = preferred().enter_sends ? !event.shiftKey : event.ctrlKey || event.metaKey
    if (event.key === "Enter" && sends && !event.isComposing) {
      event.preventDefault()
      send()
    } else if (event.key === "Escape") {
      if (found.length) { set("") } else { act.stop() }
    } else if (event.key === "ArrowUp" && !field.value) {
      act.editLast()
    }
  }

  field.rows = 1
  field.setAttribute("aria-label", "Message")
  field.setAttribute("aria-autocomplete", "list")
  field.setAttribute("aria-controls", "chatkit-commands")
  field.addEventListener("input", () => {
    draft.set(conversation, field.value)
    fit()
    suggest()
  })
  field.addEventListener("keydown", keys)
  field.addEventListener("blur", () => { list.hidden = true })
  field.addEventListener("paste", event => {
    if (event.clipboardData.files.length) {
      event.preventDefault()
      attach(event.clipboardData.files)
    } else if (event.clipboardData.getData("text").length > MOST_TEXT) {
      event.preventDefault()
      const length = event.clipboardData.getData("text").length.toLocaleString()
      complain(`What you paste has ${length} characters, and a message may have `
        + `${MOST_TEXT.toLocaleString()}; paste a part of it.`)
    }
  })
  list.id = "chatkit-commands"
  list.hidden = true
  list.setAttribute("role", "listbox")
  list.setAttribute("aria-label", "Commands and prompts")
  chips.setAttribute("aria-label", "Files")
  complaint.setAttribute("role", "alert")
  picker.type = "file"
  picker.multiple = true
  picker.tabIndex = -1
  picker.setAttribute("aria-label", "Files to attach")
  picker.addEventListener("change", () => {
    const now = [...picker.files]
    picker.value = ""
    attach(now)
  })

  const name = () => { field.placeholder = model.placeholder }
  model.on("placeholder", name)
  name()
  const row = make("div", "composer")
  row.append(
    button("attach", "Attach text files", () => picker.click()),
    field,
    button("send", "Send", send),
    button("stop", "Stop", () => act.stop()),
  )
  const box = make("div", "writing")
  box.append(list, complaint, chips, row, picker)
  box.addEventListener("dragover", event => event.preventDefault())
  box.addEventListener("drop", event => {
    event.preventDefault()
    attach(event.dataTransfer.files)
  })
  const counted = (id, tokens) => {
    const file = files.find(one => one.id === id)
    if (file) {
      file.tokens = tokens
      showFiles()
    }
  }
  // Shows what was written for another conversation.
  const turnTo = now => {
    if (now === conversation) { return }
    conversation = now
    files = []
    showFiles()
    complain("")
    field.value = draft.get(now)
    fit()
    suggest()
  }
  // A new conversation has got its name; what is being written goes on there.
  const takeAlong = now => {
    draft.set(conversation, "")
    conversation = now
    draft.set(now, field.value)
  }
  return {box, field, fit, insert, counted, turnTo, takeAlong}
}
