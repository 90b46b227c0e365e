// The record fills while its sources answer, and can be searched. Everything here also works without this file, only not while you
// look on.
//
// Nothing moves under the reader's eyes or pointer: a part that lies wholly below what is seen is filled at once; one that is
// being read waits for a press of the button that says so. Alerts and sources never wait, since a danger that is known must show; for
// a moment after they change nothing can be clicked by mistake.
import { initAll } from './nhsuk/nhsuk-frontend.min.js'

document.body.classList.add('js-enabled', 'nhsuk-frontend-supported')
initAll()
document.querySelector('[data-focus]')?.focus()

const record = document.querySelector('.t-record')
if (record) {
  const search = startSearch(record)
  if (record.dataset.events) startEvents(record, search)
  if (window.matchMedia('(max-width: 61.9375em)').matches) {
    record.querySelector('.t-nav details')?.removeAttribute('open')
  }
}

function startEvents(record, search) {
  const more = document.getElementById('more')
  const button = more.querySelector('button')
  const live = document.getElementById('live')
  const waiting = new Map()
  let touched = false
  let over = false
  for (const type of ['pointerdown', 'keydown', 'wheel', 'touchmove']) {
    window.addEventListener(type, () => { touched = true }, { once: true, passive: true })
  }

  const source = new EventSource(record.dataset.events)
  source.addEventListener('part', (e) => take(JSON.parse(e.data)))
  source.addEventListener('done', (e) => {
    over = true
    source.close()
    record.removeAttribute('data-events')
    record.dataset.complete = 'yes'
    live.textContent = e.data
  })
  source.addEventListener('stopped', () => stop())
  // A browser that is told 204, or that gives up, closes the stream: what is still shown as being asked will not come.
  source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) stop() })
  button.addEventListener('click', () => {
    for (const [id, html] of waiting) put(id, html)
    waiting.clear()
    more.hidden = true
    search.apply()
  })

  function stop() {
    if (over) return
    over = true
    source.close()
    const note = document.createElement('p')
    note.className = 't-stopped'
    note.setAttribute('role', 'alert')
    note.append('This page has stopped filling. What is shown as being asked is not known. ')
    const again = document.createElement('a')
    again.href = location.pathname
    again.textContent = 'Open the record again'
    note.append(again)
    record.prepend(note)
  }

  function take({ id, html }) {
    const old = document.getElementById(id)
    if (!old) return
    const fresh = parse(html)
    if (old.dataset.v ? old.dataset.v === fresh.dataset.v : old.outerHTML === fresh.outerHTML) return
    if (!old.dataset.v) { // banner, alerts, sources, list of headings
      put(id, html)
      return
    }
    if (touched && reading(old)) {
      waiting.set(id, html)
      button.textContent = waiting.size === 1 ? 'One section has more: show it' : waiting.size + ' sections have more: show them'
      more.hidden = false
      return
    }
    waiting.delete(id)
    put(id, html)
    search.apply()
  }

  // reading: some of the section is seen, or the reader is in it. What is wholly above is made up for by scrolling, in put.
  function reading(el) {
    const box = el.getBoundingClientRect()
    return el.contains(document.activeElement) || (box.top < window.innerHeight && box.bottom > 0)
  }

  // put replaces an element, keeps what was opened in it open, and keeps in place what the reader sees.
  function put(id, html) {
    const old = document.getElementById(id)
    if (!old) return
    const fresh = parse(html)
    const box = old.getBoundingClientRect()
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null
    old.replaceWith(fresh)
    if (focused) fresh.querySelector('a[href="' + CSS.escape(focused) + '"]')?.focus({ preventScroll: true })
    const grown = fresh.getBoundingClientRect().height - box.height
    if (grown === 0 || id === 'nav-list') return
    if (box.bottom <= 0) window.scrollBy(0, grown)
    else if (touched && box.top < window.innerHeight) settle()
  }
}

let settling
function settle() {
  document.body.classList.add('t-settling')
  clearTimeout(settling)
  settling = setTimeout(() => document.body.classList.remove('t-settling'), 500)
}

function parse(html) {
  const t = document.createElement('template')
  t.innerHTML = html // made by our own templates, which escape all that sources wrote
  return t.content.firstElementChild
}

// Search hides the lines that do not contain what is typed, and says how many it shows. The words never leave the page.
function startSearch(record) {
  const form = record.querySelector('.t-search')
  const input = form.querySelector('input[type=search]')
  const told = document.getElementById('filtered')
  const sections = document.getElementById('sections')
  if (input.value) return { apply() {} } // the server has searched already
  form.querySelector('button').hidden = true
  form.addEventListener('submit', (e) => e.preventDefault())
  input.addEventListener('input', apply)
  input.addEventListener('search', apply)

  function apply() {
    const q = input.value.trim().toLowerCase()
    let shown = 0
    let all = 0
    for (const section of sections.querySelectorAll('.t-section')) {
      let here = 0
      for (const line of section.querySelectorAll('.t-line')) {
        const match = !q || line.dataset.words.includes(q)
        line.hidden = !match
        all++
        if (match) { shown++; here++ }
      }
      section.classList.toggle('t-section--filtered', Boolean(q) && here === 0)
    }
    sections.classList.toggle('t-body--filtered', Boolean(q))
    told.hidden = !q
    if (q) {
      told.textContent = 'Showing ' + shown + ' of ' + all + (all === 1 ? ' entry' : ' entries') + ' that contain “' + input.value.trim() + '”. '
      const clear = document.createElement('button')
      clear.type = 'button'
      clear.className = 't-link'
      clear.textContent = 'Show everything'
      clear.addEventListener('click', () => { input.value = ''; apply(); input.focus() })
      told.append(clear)
    }
  }
  return { apply }
}
