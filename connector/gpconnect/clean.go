package gpconnect

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// A Reading is what can be known of a page without understanding it.
type Reading struct {
	Clean   string // the page made safe to show
	Banners map[string][]string

	cells                            int // of tables, with something in them
	none, denied, cannot, unexpected bool
}

// The banners of a section. GP Connect 0.7 accessrecord_development_html_layout_guide.html
const (
	contentBanner   = "content-banner"
	dateBanner      = "date-banner"
	exclusionBanner = "exclusion-banner"
	transferBanner  = "gptransfer-banner"
)

// ReadHTML makes a page of Access Record HTML safe, and reads its banners and the fixed sentences by which a practice's system says that
// there is nothing, or that it does not tell. It takes anything at all, and reads it once.
func ReadHTML(div string) *Reading {
	if len(div) > maxPage {
		div = div[:maxPage] // Section takes no more than this in the first place
	}
	if !utf8.ValidString(div) {
		div = strings.ToValidUTF8(div, "\uFFFD")
	}
	r := &Reading{Clean: strings.TrimSpace(connector.CleanHTML(div)), Banners: map[string][]string{}}
	s := &scanner{r: r}
	z := html.NewTokenizer(strings.NewReader(div))
	for {
		switch z.Next() {
		case html.ErrorToken:
			s.endBanner()
			s.sentence()
			return r
		case html.StartTagToken, html.SelfClosingTagToken:
			s.start(z)
		case html.EndTagToken:
			name, _ := z.TagName()
			s.end(string(name))
		case html.TextToken:
			s.text(string(z.Text()))
		}
	}
}

// A scanner follows the tags of a page: only how deep in divisions it is, so that no page can make it grow.
type scanner struct {
	r      *Reading
	banner string // the kind being read
	depth  int    // of divs within it
	words  strings.Builder
	para   strings.Builder
	inCell bool
	inHead bool // of a table: what stands there is nobody's data
	hidden int  // within script or style
}

func (s *scanner) start(z *html.Tokenizer) {
	name, attrs := z.TagName()
	tag := string(name)
	switch tag {
	case "script", "style":
		s.hidden++
	case "td":
		s.inCell = true
	case "thead", "tbody":
		s.inHead = tag == "thead"
	case "p", "h1", "h2", "h3", "table", "br":
		s.sentence()
	}
	if tag != "div" {
		return
	}
	s.sentence()
	if s.banner != "" {
		s.depth++
		return
	}
	for attrs {
		var key, val []byte
		key, val, attrs = z.TagAttr()
		if string(key) != "class" {
			continue
		}
		for class := range strings.FieldsSeq(string(val)) {
			switch class {
			case contentBanner, dateBanner, exclusionBanner, transferBanner:
				s.banner, s.depth = class, 1
				s.words.Reset()
			}
		}
	}
}

func (s *scanner) end(tag string) {
	switch tag {
	case "script", "style":
		s.hidden = max(0, s.hidden-1)
	case "thead":
		s.inHead = false
	case "td", "tr", "table":
		s.inCell = false
	case "p", "h1", "h2", "h3":
		s.sentence()
	case "div":
		s.sentence()
		if s.banner != "" {
			if s.depth--; s.depth == 0 {
				s.endBanner()
			}
		}
	}
}

// mostWords is how much of a sentence or banner is read. All that the specification writes are far shorter.
const mostWords = 400

func (s *scanner) text(t string) {
	if s.hidden > 0 {
		return
	}
	t = strings.Join(strings.Fields(t), " ")
	switch {
	case t == "":
	case s.banner != "":
		if s.words.Len() < mostWords {
			s.words.WriteString(" " + t)
		}
	case s.inHead:
	case s.inCell:
		s.r.cells++
	case s.para.Len() < mostWords:
		s.para.WriteString(" " + t)
	}
}

func (s *scanner) endBanner() {
	if w := strings.TrimSpace(s.words.String()); s.banner != "" && w != "" && len(s.r.Banners[s.banner]) < 20 {
		s.r.Banners[s.banner] = append(s.r.Banners[s.banner], w)
	}
	s.banner, s.depth = "", 0
	s.words.Reset()
}

// sentence ends a paragraph, and knows the four that the specification writes.
//
// GP Connect 0.7 accessrecord_development_html_implementation_guide.html#error-handling
func (s *scanner) sentence() {
	p := strings.ToLower(strings.TrimSpace(s.para.String()))
	s.para.Reset()
	switch {
	case p == "":
	case strings.HasPrefix(p, "no ") && strings.Contains(p, "data is recorded for this patient"):
		s.r.none = true
	case strings.HasPrefix(p, "access is denied to"):
		s.r.denied = true
	case strings.HasPrefix(p, "this system does not support retrieval of"), strings.HasSuffix(strings.TrimRight(p, "."), "data is not supported by this system"):
		s.r.cannot = true
	case len(p) > 60: // a heading is shorter; a note of this length says something
		s.r.unexpected = true
	}
}

// State is what the page tells of its heading; "" if it does not tell. Its subsections may differ: what is there is shown, and none is said
// only where nothing else is.
func (r *Reading) State() dataset.State {
	withheld := len(r.Banners[exclusionBanner]) > 0
	switch {
	case r.cells > 0, r.unexpected:
		return dataset.Present
	case r.denied, withheld:
		return dataset.NotShared
	case r.none && !r.cannot && len(r.Banners[transferBanner]) == 0:
		return dataset.NoneRecorded
	}
	return ""
}

var (
	bannerDate = regexp.MustCompile(`\b\d{1,2}-[A-Z][a-z]{2}-\d{4}\b`)
	longNumber = regexp.MustCompile(`\d[\d\s-]{8,}\d`)
)

// Issues are the page's banners as remarks: in our words where the specification fixes theirs, and in the practice's own where it does not.
func (r *Reading) Issues() []*fhir.Issue {
	var out []*fhir.Issue
	for _, words := range r.Banners[transferBanner] {
		out = append(out, warning("data-in-transit", bannerDate.FindString(words)))
	}
	if len(r.Banners[exclusionBanner]) > 0 {
		out = append(out, warning("confidential-items", ""))
	}
	for _, kind := range [...]string{contentBanner, dateBanner} {
		for _, words := range unique(r.Banners[kind]) {
			if kind == dateBanner && strings.EqualFold(words, "All relevant items") {
				continue // nothing is left out
			}
			out = append(out, &fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Information, Text: "the practice says of this page: “" + plain(words) + "”"})
		}
	}
	if r.denied && r.State() == dataset.Present {
		out = append(out, &fhir.Issue{Type: fhir.Suppressed, Severity: fhir.Warning, Text: "the practice does not share a part of this page"})
	}
	if r.cannot {
		out = append(out, &fhir.Issue{Type: fhir.NotSupported, Severity: fhir.Warning, Text: "the practice's system cannot show a part of this; it may still hold it"})
	}
	return out
}

// plain keeps a practice's words short, and takes out of them what could be somebody's number.
func plain(s string) string {
	s = longNumber.ReplaceAllString(s, "…")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}

func unique(in []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
