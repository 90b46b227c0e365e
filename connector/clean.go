package connector

import (
	"regexp"

	"github.com/microcosm-cc/bluemonday"
)

// pagePolicy lets through a page's words, headings, lists and tables. No links, images, styles, scripts, forms or events.
var pagePolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td",
		"b", "strong", "i", "em", "u", "sub", "sup", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote")
	p.AllowAttrs("colspan", "rowspan").Matching(regexp.MustCompile(`^[1-9][0-9]?$`)).OnElements("td", "th")
	p.AddSpaceWhenStrippingTag(true)
	return p
}()

// CleanHTML makes safe to show what a source sent as a page or narrative. It takes anything at all. FHIR R4 narrative.html#xhtml
func CleanHTML(page string) string { return pagePolicy.Sanitize(page) }
