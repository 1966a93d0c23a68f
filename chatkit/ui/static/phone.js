// What a phone needs: an icon to install the page, room for the keyboard, and a swipe.

const HERE = new URL(".", import.meta.url)
// A swipe is longer than it is high. One that opens begins on the left, but not only at the edge,
// which many phones keep for their own way back.
const LEFT = 0.4
const FAR = 60

function head(tag, attributes) {
  const found = document.head.querySelector(`${tag}[${attributes.rel ? "rel" : "name"}="${attributes.rel ?? attributes.name}"]`)
  const element = found ?? document.head.appendChild(document.createElement(tag))
  for (const [name, value] of Object.entries(attributes)) { element.setAttribute(name, value) }
}

// Lets the browser install the page, and use the whole window beside cameras and corners.
export function installable() {
  head("link", {rel: "manifest", href: new URL("manifest.json", HERE).href})
  head("link", {rel: "icon", href: new URL("icon-192.png", HERE).href, type: "image/png"})
  head("link", {rel: "apple-touch-icon", href: new URL("icon-192.png", HERE).href})
  head("meta", {
    name: "viewport",
    content: "width=device-width, initial-scale=1, viewport-fit=cover, interactive-widget=resizes-content",
  })
}

// Keeps the foot of the page above a keyboard that covers a part of the window.
export function aboveKeyboard(element, steadily, signal) {
  const seen = window.visualViewport
  if (!seen) { return }
  const fit = () => {
    // Who has zoomed in sees a part as well, and no keyboard.
    const covered = seen.scale > 1.01 ? 0 : window.innerHeight - seen.height - seen.offsetTop
    steadily(() => { element.style.paddingBottom = covered > 1 ? `${Math.round(covered)}px` : "" })
  }
  seen.addEventListener("resize", fit, {signal})
  seen.addEventListener("scroll", fit, {signal})
}

// What a finger moves sideways by itself: wide code, a table, a field.
const slides = one => one instanceof Element
  && (one.matches("input, textarea, select") || one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(one).overflowX))

// Tells of a finger that goes in from the left, or back to it.
export function swipes(element, {opens, tell}, signal) {
  let from = null
  element.addEventListener("touchstart", event => {
    const [touch] = event.touches
    const begins = event.touches.length === 1 && !event.composedPath().some(slides)
      && (!opens || touch.clientX <= LEFT * window.innerWidth)
    // Who has zoomed in moves about with one finger.
    const zoomed = (window.visualViewport?.scale ?? 1) > 1.01
    from = begins && !zoomed ? {x: touch.clientX, y: touch.clientY} : null
  }, {passive: true, signal})
  // The browser would take it for its own way back to the page before.
  element.addEventListener("touchmove", event => {
    const [touch] = event.touches
    const across = from ? Math.abs(touch.clientX - from.x) : 0
    if (from && event.cancelable && across > Math.abs(touch.clientY - from.y)) { event.preventDefault() }
  }, {passive: false, signal})
  element.addEventListener("touchend", event => {
    const [touch] = event.changedTouches
    if (!from) { return }
    const [across, down] = [touch.clientX - from.x, Math.abs(touch.clientY - from.y)]
    from = null
    if (Math.abs(across) > FAR && Math.abs(across) > 2 * down && (across > 0) === opens) { tell() }
  }, {passive: true, signal})
}
