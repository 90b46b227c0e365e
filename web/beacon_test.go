package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tombolo/gather"
)

// acting are pieces of a web page that do something in a browser: by script, by loading, by leading away. BEACON stands for somebody else's address, after which
// each has a number of its own.
var acting = []string{
	`<script>fetch("BEACON")</script>`, `<script src="BEACON"></script>`, `<img src="BEACON">`, `<img src=x onerror="fetch('BEACON')">`, `<svg onload="fetch('BEACON')"></svg>`, `<svg><script>fetch("BEACON")</script></svg>`,
	`<svg><image href="BEACON"/></svg>`, `<svg><use href="BEACON#x"/></svg>`, `<svg><animate onbegin="fetch('BEACON')" attributeName="x" dur="1s"/></svg>`, `<iframe src="BEACON"></iframe>`, `<iframe srcdoc="<script>fetch('BEACON')</script>"></iframe>`,
	`<object data="BEACON"></object>`, `<embed src="BEACON">`, `<link rel="stylesheet" href="BEACON">`, `<link rel="prefetch" href="BEACON">`, `<link rel="icon" href="BEACON">`, `<style>@import "BEACON";</style>`, `<style>body{background:url(BEACON)}</style>`,
	`<p style="background-image:url(BEACON)">x</p>`, `<table background="BEACON"><tr><td>x</td></tr></table>`, `<video src="BEACON" autoplay></video>`, `<video poster="BEACON"></video>`, `<audio src="BEACON" autoplay></audio>`,
	`<video><source onerror="fetch('BEACON')" src=x></video>`, `<input type="image" src="BEACON">`, `<input autofocus onfocus="fetch('BEACON')">`, `<details open ontoggle="fetch('BEACON')"><summary>x</summary></details>`, `<marquee onstart="fetch('BEACON')">x</marquee>`,
	`<body onload="fetch('BEACON')">`, `<math><mtext><table><mglyph><style><img src=x onerror="fetch('BEACON')"></style></mglyph></table></mtext></math>`, `<noscript><p title="</noscript><img src=x onerror=fetch('BEACON')>"></noscript>`,
	`<template><img src="BEACON"></template><img srcset="BEACON 1x">`, `<picture><source srcset="BEACON"><img src="x"></picture>`, `<form action="BEACON" id=f></form><script>f.submit()</script>`, `<isindex action="BEACON">`,
	`<scr<script>ipt>fetch("BEACON")</scr</script>ipt>`, `<IMG """><SCRIPT>fetch("BEACON")</SCRIPT>">`, `<img src="x` + "`" + `onerror=fetch('BEACON')>`, `<img/src="x"/onerror=fetch('BEACON')>`, `<svg/onload=fetch('BEACON')//`,
	"<img src=x\x00onerror=fetch('BEACON')>", `<!--[if gte IE 4]><script>fetch("BEACON")</script><![endif]--><!--><img src="BEACON">-->`, `<?xml-stylesheet href="BEACON" type="text/css"?>`, `<xml><x:script xmlns:x="http://www.w3.org/1999/xhtml">fetch("BEACON")</x:script></xml>`,
	`<b title="--!><img src=x onerror=fetch('BEACON')>">x</b>`, `</title><script>fetch("BEACON")</script>`, `</textarea><img src="BEACON">`, `<plaintext><img src="BEACON">`,
}

// refreshing lead the page itself away, so that each has a page of its own.
var refreshing = []string{`<meta http-equiv="refresh" content="0;url=BEACON">`, `<base href="BEACON/"><img src="x">`, `<script>location="BEACON"</script>`, `<frameset><frame src="BEACON"></frameset>`}

// beacons are an address that nothing of a record may reach, and what of it was reached.
type beacons struct {
	*httptest.Server
	mu   sync.Mutex
	hits []string
}

func newBeacons(t *testing.T) *beacons {
	b := &beacons{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.hits = append(b.hits, r.URL.Path+" from "+r.Header.Get("Referer"))
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *beacons) seen() []string { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.hits) }

// put gives each BEACON of a text an address of its own.
func (b *beacons) put(name, text string) string {
	for n := 0; strings.Contains(text, "BEACON"); n++ {
		text = strings.Replace(text, "BEACON", b.URL+"/"+name+"-"+strconv.Itoa(n), 1)
	}
	return text
}

// pdf is a PDF that does on opening what PDFs can: runs a script, opens an address, sends a form there.
func pdf(address string) []byte {
	return fmt.Appendf(nil, `%%PDF-1.7
1 0 obj <</Type/Catalog/Pages 2 0 R/OpenAction 4 0 R/Names<</JavaScript<</Names[(a) 4 0 R]>>>>>> endobj
2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj
3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/AA<</O 5 0 R>>>> endobj
4 0 obj <</S/JavaScript/JS(app.launchURL\("%[1]s/js",true\);this.submitForm\("%[1]s/form"\);)/Next 5 0 R>> endobj
5 0 obj <</S/URI/URI(%[1]s/uri)/Next 6 0 R>> endobj
6 0 obj <</S/SubmitForm/F<</FS/URL/F(%[1]s/submit)>>>> endobj
trailer <</Root 1 0 R>>
%%%%EOF
`, address)
}

// No document that a source sent reaches anybody when it is opened: a doctor's browser opens each, and nothing comes to the address that all of them name. The same
// page, served as it came, reaches it.
func TestInABrowserNoDocumentReachesOut(t *testing.T) {
	ctx := browser(t, 1000, 800)
	control, b := newBeacons(t), newBeacons(t)
	raw := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(control.put("raw", strings.Join(acting[:31], "\n"))))
	}))
	t.Cleanup(raw.Close)
	must(t, chromedp.Do(ctx, chromedp.Navigate(raw.URL)))
	for start := time.Now(); len(control.seen()) < 15; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("only %d of what acts on a page acts in this browser: %q", len(control.seen()), control.seen())
		}
	}

	f := newFake()
	shown, title := 0, `<img src="BEACON"><script>fetch("BEACON")</script>`
	add := func(id, kind, text string) {
		f.docs["person-1/"+id] = &gather.Document{Title: b.put("title-"+id, title), ContentType: kind, Data: []byte(b.put(id, text))}
	}
	whole := strings.Join(acting, "\n")
	add("html", "text/html", "<h1>Letter</h1>"+whole)
	add("xhtml", "application/xhtml+xml", `<html xmlns="http://www.w3.org/1999/xhtml"><body>`+whole+`</body></html>`)
	add("html-in-text", "text/plain", "<html>"+whole)
	add("text-in-utf7", "text/plain; charset=utf-7", `+ADw-script+AD4-fetch("BEACON")+ADw-/script+AD4-`)
	add("html-in-utf16", "text/html; charset=utf-16", "\xff\xfe"+whole)
	add("html-in-pdf", "application/pdf", "%PDF-1.4 <html>"+whole)
	add("svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("BEACON")</script><image href="BEACON"/></svg>`)
	add("xml", "text/xml", `<?xml-stylesheet type="text/xsl" href="BEACON"?><x xmlns:h="http://www.w3.org/1999/xhtml"><h:script>fetch("BEACON")</h:script></x>`)
	add("cda", "application/hl7-cda+xml", `<?xml-stylesheet type="text/xsl" href="BEACON"?><ClinicalDocument xmlns="urn:hl7-org:v3"><component><nonXMLBody><text><reference value="BEACON"/></text></nonXMLBody></component></ClinicalDocument>`)
	add("script", "text/javascript", `fetch("BEACON")`)
	add("multipart", "multipart/related", whole)
	add("unknown", "", whole)
	add("mhtml", "message/rfc822", whole)
	add("two-kinds", "text/plain, text/html", whole)
	add("kind-that-acts", "text/html;<script>", whole)
	f.docs["person-1/pdf"] = &gather.Document{Title: "Plan", ContentType: "application/pdf", Data: pdf(b.URL)}
	for i, piece := range append(slices.Clone(refreshing), acting[31:]...) {
		add("piece-"+strconv.Itoa(i), "text/html", piece)
	}
	srv := newSite(t, f)
	enter(t, ctx, srv, "dr-marsh")
	var ids []string
	for id := range f.docs {
		if id, ours := strings.CutPrefix(id, "person-1/"); ours {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		at := srv.URL + "/record/person-1/document/" + id
		// A PDF that the browser keeps instead of showing ends the way there: what counts is what it reached.
		if _, err := chromedp.RunResponse(ctx, chromedp.Navigate(at)); err != nil && !strings.Contains(err.Error(), "ERR_ABORTED") {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if strings.HasPrefix(id, "piece-") || strings.HasPrefix(id, "html") {
			shown++
		}
		if where := eval[string](t, ctx, "location.href"); !strings.HasPrefix(where, srv.URL) {
			t.Errorf("%s leads to %s", id, where)
		}
	}
	if shown < 20 {
		t.Errorf("only %d were opened", shown)
	}
	time.Sleep(500 * time.Millisecond) // what an open page does by and by
	if hits := b.seen(); len(hits) > 0 {
		t.Errorf("%d reached out: %q", len(hits), hits)
	}
}
