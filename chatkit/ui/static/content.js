// What an answer's HTML gets in the browser: tools on code, typeset maths, and a limit on length.

import {button, make, wordButton} from "./message.js"

const LONG_QUESTION = 1_500
const LONG_ANSWER = 20_000
// Nobody reads so many pieces of code; buttons on thousands of them would stop the page.
const MOST_FRAMED = 200
// What a language's files end with, where that is not its name.
const ENDINGS = {
  bash: "sh", "c#": "cs", "c++": "cpp", csharp: "cs", javascript: "js", kotlin: "kt", markdown: "md",
  powershell: "ps1", python: "py", ruby: "rb", rust: "rs", shell: "sh", text: "txt", typescript: "ts",
  yaml: "yml",
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // Without a secure address there is no clipboard but this one.
    const field = make("textarea", "said")
    field.value = text
    document.body.append(field)
    field.select()
    document.execCommand("copy")
    field.remove()
  }
}

export function copyButton(label, text) {
  const one = button("copy", label, async () => {
    await write(text())
    one.classList.add("done")
    setTimeout(() => one.classList.remove("done"), 1500)
  })
  return one
}

function download(text, language) {
  const link = make("a", "said")
  const ending = ENDINGS[language] ?? (/^[a-z0-9]{1,8}$/.test(language) ? language : "txt")
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}))
  link.download = `code.${ending}`
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

function tools(pre, whole) {
  const language = pre.dataset.language ?? ""
  const bar = make("div", "tools")
  bar.append(make("span", "language", language || "code"))
  if (whole) {
    const wrap = button("wrap", "Wrap lines", () => {
      wrap.setAttribute("aria-pressed", String(pre.classList.toggle("wrapped")))
    })
    wrap.setAttribute("aria-pressed", "false")
    bar.append(
      wrap,
      button("download", "Download code", () => download(pre.textContent, language)),
      copyButton("Copy code", () => pre.textContent),
    )
  }
  return bar
}

function frameCode(part, whole) {
  for (const pre of [...part.querySelectorAll("pre")].slice(0, MOST_FRAMED)) {
    if (pre.parentElement.classList.contains("code")) { continue }
    const frame = make("div", "code")
    pre.replaceWith(frame)
    frame.append(tools(pre, whole), pre)
    // Wider than the page, it is scrolled by keys too.
    pre.tabIndex = 0
  }
}

let katex = null

// Written as MathML, which browsers draw themselves and read aloud: Panel ships no fonts of KaTeX.
const TYPESET = {output: "mathml", throwOnError: true, trust: false, maxSize: 20, maxExpand: 200}

async function typeset(part, script) {
  const found = [...part.querySelectorAll(".math:not(.set)")]
  if (!found.length || !script) { return }
  for (const one of found) { one.classList.add("set") }
  try {
    katex ??= import(script)
    await katex
  } catch { return }
  for (const one of found) {
    const tex = one.textContent
    try {
      window.katex.render(tex, one, {...TYPESET, displayMode: one.classList.contains("block")})
    } catch {
      one.textContent = tex
      one.classList.add("wrong")
    }
  }
}

// Blocks that have ended get everything; the one that grows gets what would otherwise jump.
export function dress(text, script) {
  const [ended, tail] = [text.querySelector(".ended"), text.querySelector(".tail")]
  frameCode(ended, true)
  frameCode(tail, false)
  typeset(ended, script)
}

// All of it at once, when nothing more comes.
export function dressWhole(text, script) {
  for (const part of text.children) {
    frameCode(part, true)
    typeset(part, script)
  }
}

export function clamp(element, text, role) {
  const most = role === "user" ? LONG_QUESTION : LONG_ANSWER
  const lines = role === "user" ? text.textContent.split("\n").length : 0
  if (text.textContent.length <= most && lines <= 30) { return }
  element.classList.add("clamped")
  const more = wordButton("all", "Show all", () => {
    const all = !element.classList.toggle("clamped")
    more.textContent = all ? "Show less" : "Show all"
    more.setAttribute("aria-expanded", String(all))
  })
  more.setAttribute("aria-expanded", "false")
  text.after(more)
}
