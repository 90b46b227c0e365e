package document

import (
	"html"
	"strconv"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// A page is being written.
type page struct{ b strings.Builder }

func (p *page) text(s string) { p.b.WriteString(html.EscapeString(s)) }

func (p *page) element(name, text string) {
	if text != "" {
		p.b.WriteString("<" + name + ">")
		p.text(text)
		p.b.WriteString("</" + name + ">\n")
	}
}

// row is a line of the head of the page: what, and its value.
func (p *page) row(what, value string) {
	if value != "" {
		p.b.WriteString("<dt>")
		p.text(what)
		p.b.WriteString("</dt><dd>")
		p.text(value)
		p.b.WriteString("</dd>\n")
	}
}

// bytes closes the page. It is written from an allow-list already; cleaning it is the second lock on the same door, and the only one for the
// XHTML that a FHIR narrative brings.
func (p *page) bytes(title string) []byte {
	return []byte("<!DOCTYPE html>\n<html lang=\"en-GB\"><head><meta charset=\"utf-8\"><title>" + html.EscapeString(title) +
		"</title></head><body>\n" + connector.CleanHTML(p.b.String()) + "</body></html>\n")
}

// title is the document's own, or what its code says.
func (c *cda) title() string {
	if t := c.doc.child("title").words(); t != "" {
		return t
	}
	if t := concept(c.doc.child("code")).Words(); t != "" {
		return t
	}
	return "Clinical document"
}

// page renders the document for reading.
func (c *cda) page() ([]byte, error) {
	p := &page{}
	p.element("h1", c.title())
	p.b.WriteString("<dl>\n")
	p.row("Written", written(moment(c.doc.child("effectiveTime"))))
	for i, a := range c.authors {
		by := a.Display
		if c.roles[i] != "" {
			by += ", " + c.roles[i]
		}
		p.row("By", by)
	}
	p.row("Organisation", c.custodian.Display)
	e := c.doc.child("componentOf", "encompassingEncounter")
	span := period(e.child("effectiveTime"))
	p.row("Began", written(span.Start))
	p.row("Ended", written(span.End))
	p.row("Outcome", concept(e.child("dischargeDispositionCode")).Words())
	for _, a := range c.doc.children("authorization") {
		p.row("Consent", concept(a.child("consent", "code")).Words())
	}
	p.b.WriteString("</dl>\n")
	for _, body := range c.doc.children("component") {
		p.sections(body.child("structuredBody"), 2)
	}
	for _, a := range c.attached {
		p.element("p", "With the document came a file: "+a.title+" ("+a.mime+").")
	}
	return p.bytes(c.title()), nil
}

// written is a FHIR dateTime as people write it.
func written(s string) string {
	span, err := fhir.ParseDate(s)
	switch {
	case err != nil:
		return ""
	case len(s) > 10:
		return span.Start.In(fhir.London).Format("2 January 2006, 15:04")
	case len(s) == 10:
		return span.Start.Format("2 January 2006")
	}
	return s
}

func (p *page) sections(n *node, level int) {
	for _, comp := range n.children("component") {
		s := comp.child("section")
		if s == nil {
			continue
		}
		p.element("h"+strconv.Itoa(min(level, 6)), s.child("title").words())
		if text := s.child("text"); text != nil {
			p.b.WriteString("<div>")
			p.narrative(text)
			p.b.WriteString("</div>\n")
		}
		p.sections(s, level+1)
	}
}

// tags are CDA's narrative elements and what they become; "" keeps only what is inside. CDA R2 NarrativeBlock.xsd
var tags = map[string]string{
	"content": "span", "paragraph": "p", "item": "li", "table": "table", "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr",
	"th": "th", "td": "td", "caption": "caption", "sub": "sub", "sup": "sup", "linkHtml": "", "footnote": "", "footnoteRef": "", "text": "",
}

// narrative writes what stands in a narrative block: only elements of the list above, of their attributes only colspan and rowspan.
func (p *page) narrative(n *node) {
	for _, k := range n.kids {
		if k.name == "" {
			p.text(k.text)
			continue
		}
		tag, known := tags[k.name]
		switch {
		case k.name == "br":
			p.b.WriteString("<br>")
			p.narrative(k)
			continue
		case k.name == "list":
			if tag = "ul"; k.at("listType") == "ordered" {
				tag = "ol"
			}
		case k.name == "renderMultiMedia":
			p.element("p", "[a picture or file stands here in the original]")
			continue
		case !known && !hasWords(k):
			continue
		case k.name == "content" && strings.Contains(strings.ToLower(k.at("styleCode")), "bold"):
			tag = "b"
		case k.name == "content" && strings.Contains(strings.ToLower(k.at("styleCode")), "italic"):
			tag = "i"
		case !known && (k.name == "script" || k.name == "style"):
			continue
		}
		p.wrapped(tag, k)
	}
}

func hasWords(n *node) bool { return n.words() != "" }

func (p *page) wrapped(tag string, k *node) {
	if tag == "" {
		p.narrative(k)
		return
	}
	p.b.WriteString("<" + tag)
	if tag == "td" || tag == "th" {
		for _, a := range [...]string{"colspan", "rowspan"} {
			if n, err := strconv.Atoi(k.at(a)); err == nil && n > 1 && n < 100 {
				p.b.WriteString(` ` + a + `="` + strconv.Itoa(n) + `"`)
			}
		}
	}
	p.b.WriteString(">")
	p.narrative(k)
	p.b.WriteString("</" + tag + ">")
}
