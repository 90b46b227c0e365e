package search

import (
	"html"
	"math"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/ucum"
)

// Parameters that are looked for by reading each candidate: words in a narrative, words anywhere, and what is near a place. They have no index entries, so a search by one
// of them alone reads all resources of the type, as many at a time as any search may.

// KindSpecial is of parameters with a syntax of their own. FHIR R4 search.html#special
const KindSpecial Kind = "special"

// scanned are added to the table: R4 defines them without an expression, or with one that says nothing of what they mean.
var scanned = map[string][]*Def{
	"*":        {{Name: "_text", Kind: KindString, Path: "text", scan: textTest}, {Name: "_content", Kind: KindString, scan: contentTest}},
	"Location": {{Name: "near", Kind: KindSpecial, Path: "position", scan: nearTest}},
}

// addScanned adds them to a table that was read.
func addScanned(t map[string]map[string]*Def) error {
	for typ, defs := range scanned {
		for _, d := range defs {
			e, err := parseExpr(d.Path)
			if err != nil {
				return err
			}
			c := *d
			c.expr = e
			t[typ][d.Name] = &c
		}
	}
	return nil
}

// wordsTest finds a text that has every word of a value, each from its start. FHIR R4 search.html#content leaves the rest to the server.
func wordsTest(value string, text func(fhir.Value) string) (valueTest, error) {
	words := strings.Fields(fold(unescape(value)))
	if len(words) == 0 {
		return nil, fhir.Errorf(fhir.Invalid, "has no word to look for")
	}
	return func(v fhir.Value) bool {
		have := " " + fold(text(v))
		for _, w := range words {
			if !strings.Contains(have, " "+w) {
				return false
			}
		}
		return true
	}, nil
}

func textTest(value string) (valueTest, error) {
	return wordsTest(value, func(v fhir.Value) string { return plainText(v.Member("div").Str()) })
}

func contentTest(value string) (valueTest, error) {
	return wordsTest(value, func(v fhir.Value) string {
		var b strings.Builder
		var add func(fhir.Value)
		add = func(v fhir.Value) {
			switch {
			case v.IsString() && v.Key() == "div":
				b.WriteString(" " + plainText(v.Str()))
			case v.IsString() && v.Key() != "data":
				b.WriteString(" " + v.Str())
			default:
				for c := range v.Children() {
					add(c)
				}
			}
		}
		add(v)
		return b.String()
	})
}

// plainText is XHTML without its tags.
func plainText(xhtml string) string {
	var b strings.Builder
	for xhtml != "" {
		text, rest, tag := strings.Cut(xhtml, "<")
		b.WriteString(text)
		if !tag {
			break
		}
		b.WriteByte(' ')
		_, xhtml, _ = strings.Cut(rest, ">")
	}
	return html.UnescapeString(b.String())
}

// nearDefault is how far "near" is if nobody says, in kilometres.
const nearDefault = 10.0

// nearTest is latitude|longitude|distance|units. FHIR R4 location.html#search
func nearTest(value string) (valueTest, error) {
	p := split(value, '|')
	if len(p) < 2 || len(p) > 4 {
		return nil, fhir.Errorf(fhir.Invalid, "is written latitude|longitude, latitude|longitude|distance, or latitude|longitude|distance|unit")
	}
	var n [3]float64
	n[2] = nearDefault
	for i, s := range p[:min(3, len(p))] {
		if s = strings.TrimSpace(unescape(s)); s == "" && i == 2 {
			continue
		}
		d, ok := parseDecimal(s)
		if !ok {
			return nil, fhir.Errorf(fhir.Invalid, "has something that is no number: write 51.86|-2.24|5|km")
		}
		n[i], _ = d.value.Float64()
	}
	if math.Abs(n[0]) > 90 || math.Abs(n[1]) > 180 || n[2] < 0 {
		return nil, fhir.Errorf(fhir.Invalid, "takes a latitude of -90 to 90, a longitude of -180 to 180, and a distance of 0 or more")
	}
	if len(p) == 4 {
		unit := strings.TrimSpace(unescape(p[3]))
		d, _ := parseDecimal(strings.TrimSpace(unescape(p[2])))
		if unit != "" && d.value != nil {
			far, err := ucum.Convert(d.value, unit, "km")
			if err != nil {
				return nil, fhir.Errorf(fhir.Invalid, "has a unit that is no length in UCUM: write km, m or [mi_i]")
			}
			n[2], _ = far.Float64()
		}
	}
	return func(v fhir.Value) bool {
		lat, ok := parseDecimal(v.Member("latitude").Str())
		long, ok2 := parseDecimal(v.Member("longitude").Str())
		if !ok || !ok2 {
			return false
		}
		a, _ := lat.value.Float64()
		b, _ := long.value.Float64()
		return kilometres(n[0], n[1], a, b) <= n[2]
	}, nil
}

// kilometres is the great-circle distance of two places on a round earth: right to half a per cent.
func kilometres(lat1, long1, lat2, long2 float64) float64 {
	const rad, radius = math.Pi / 180, 6371.0088
	s1, s2 := math.Sin((lat2-lat1)*rad/2), math.Sin((long2-long1)*rad/2)
	return 2 * radius * math.Asin(math.Min(1, math.Sqrt(s1*s1+math.Cos(lat1*rad)*math.Cos(lat2*rad)*s2*s2)))
}
