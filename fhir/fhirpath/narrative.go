package fhirpath

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"tombolo/fhir"
)

const xhtmlNamespace = "http://www.w3.org/1999/xhtml"

// The elements and attributes that a narrative may have: HTML 4.0's basic formatting, without anything that acts. FHIR R4 narrative.html#id
var (
	narrativeElements = set(`a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img li map area ol p pre q samp
small span strong sub sup table tbody td tfoot th thead tr tt ul var ins del bdo kbd u s strike center`)
	narrativeAttributes = set(`abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset cite class colspan compact coords dir
frame headers height href hreflang hspace id lang longdesc name nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type valign value vspace width
color size face xml:lang xmlns clear datetime usemap ismap`)
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

const maxNarrativeDepth = 200

// Narrative reports what is wrong with a narrative's XHTML; nil if nothing is: one div, in the namespace of XHTML, of elements and attributes of basic
// formatting only, links to nothing that acts, and something in it to read or see. FHIR R4 narrative.html (txt-1, txt-2)
func Narrative(text string) error {
	if !utf8.ValidString(text) {
		return fhir.Errorf(fhir.ValueError, "a narrative is UTF-8")
	}
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	depth, content, ended := 0, false, false
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fhir.Errorf(fhir.Structure, "a narrative is well-formed XHTML")
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth > maxNarrativeDepth {
				return fhir.Errorf(fhir.TooCostly, "a narrative is nested at most %d deep", maxNarrativeDepth)
			}
			if depth == 1 && (ended || t.Name.Local != "div") {
				return fhir.Errorf(fhir.Structure, "a narrative is one div")
			}
			if err := narrativeElement(t); err != nil {
				return err
			}
			content = content || t.Name.Local == "img"
		case xml.EndElement:
			depth--
			ended = depth == 0
		case xml.CharData:
			filled := strings.TrimSpace(string(t)) != ""
			if depth == 0 && filled {
				return fhir.Errorf(fhir.Structure, "a narrative is one div")
			}
			content = content || filled
		case xml.ProcInst:
			if t.Target != "xml" || depth > 0 {
				return fhir.Errorf(fhir.Structure, "a narrative has no processing instructions")
			}
		case xml.Directive:
			return fhir.Errorf(fhir.Structure, "a narrative has no DOCTYPE or other directive")
		}
	}
	if !ended || !content {
		return fhir.Errorf(fhir.Invariant, "a narrative has some text or picture in it")
	}
	return nil
}

func narrativeElement(t xml.StartElement) error {
	if t.Name.Space != xhtmlNamespace || !narrativeElements[t.Name.Local] {
		return fhir.Errorf(fhir.Invariant, "a narrative has elements of basic formatting only, in the namespace %s", xhtmlNamespace)
	}
	for _, a := range t.Attr {
		name := a.Name.Local
		if a.Name.Space == "http://www.w3.org/XML/1998/namespace" || a.Name.Space == "xml" {
			continue
		}
		if a.Name.Space == "xmlns" || a.Name.Space != "" || !narrativeAttributes[name] {
			return fhir.Errorf(fhir.Invariant, "a narrative has attributes of basic formatting only: none that act")
		}
		if (name == "href" || name == "src" || name == "cite" || name == "longdesc") && acts(a.Value) {
			return fhir.Errorf(fhir.Invariant, "a narrative links to nothing that acts (javascript:, vbscript:, data: of other than pictures)")
		}
	}
	return nil
}

func acts(url string) bool {
	u := strings.ToLower(strings.Map(func(r rune) rune {
		if r <= ' ' {
			return -1
		}
		return r
	}, url))
	return strings.HasPrefix(u, "javascript:") || strings.HasPrefix(u, "vbscript:") || strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "data:image/")
}
