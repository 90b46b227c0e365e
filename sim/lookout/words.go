package lookout

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"tombolo/fhir"
)

// What a word is.
const (
	aNumber  = "an NHS number"
	aName    = "a family name"
	aGiven   = "a given name"
	aWhole   = "a whole name"
	aLocal   = "a patient's number at a source"
	aBirth   = "a birth date"
	aCanary  = "a canary"
	freeText = "free text"
)

// words are those that can be nothing but a patient's. The zero value holds none.
type words struct {
	known string            // in lower case: what is no secret
	what  map[string]string // by the words, in lower case
	heads map[uint64][]string
	of    map[string][]string // whose they are, by the words: ids of Patients, and numbers; anybody
	owner string              // whose those are that are learned now; "" if that is not known
	sieve [1 << 10]uint64     // of the heads: most places of a text are told by it to be the beginning of nothing
}

// Shorter family names than this one are looked for only beside a given name.
const longFamily = 6

// head is how many bytes of words are looked up at once. Shorter ones are not learned.
const head = 5

func (w *words) hide(what, text string) {
	text = strings.ToLower(text)
	if w.what[text] != "" {
		w.tie(text)
		return
	}
	if len(text) < head || strings.Contains(w.known, text) {
		return
	}
	defer w.tie(text)
	if w.what == nil {
		w.what, w.heads = map[string]string{}, map[uint64][]string{}
	}
	w.what[text] = what
	var h uint64
	for i := range head {
		h = h<<8 | uint64(text[i])
	}
	w.heads[h] = append(w.heads[h], text)
	w.sieve[bit(h)/64] |= 1 << (bit(h) % 64)
}

// anybody is whose words are that so many have said that they are nobody's.
const (
	anybody = "*"
	many    = 16
)

// tie remembers whose words these are.
func (w *words) tie(text string) {
	was := w.of[text]
	switch {
	case w.owner == "" || slices.Contains(was, anybody) || slices.Contains(was, w.owner):
		return
	case w.owner == anybody || len(was) == many:
		was = []string{anybody}
	default:
		was = append(was, w.owner)
	}
	if w.of == nil {
		w.of = map[string][]string{}
	}
	w.of[text] = was
}

// another reports whether words are of somebody, and of nobody who is among those named.
func (w *words) another(text string, named map[string]bool) bool {
	of := w.of[text]
	return len(of) > 0 && !named[strings.ReplaceAll(text, " ", "")] && !slices.ContainsFunc(of, func(id string) bool { return id == anybody || named[id] })
}

func bit(h uint64) uint64 { return (h * 0x9e3779b97f4a7c15) >> 48 }

// A find is a place in a text where words are that are no part of longer ones.
type find struct{ what, words, about string }

// in finds the words in a text, each once.
func (w *words) in(text string) (found []find) {
	if len(w.what) == 0 || len(text) < head {
		return nil
	}
	lower := strings.ToLower(text)
	var seen map[string]bool
	var h uint64
	for i := range len(lower) {
		h = (h<<8 | uint64(lower[i])) & (1<<(8*head) - 1)
		if i < head-1 || w.sieve[bit(h)/64]&(1<<(bit(h)%64)) == 0 {
			continue
		}
		at := i - head + 1
		for _, words := range w.heads[h] {
			end := at + len(words)
			if !strings.HasPrefix(lower[at:], words) || seen[words] || at > 0 && alphanumeric(lower[at-1]) || end < len(lower) && len(words) < cut && alphanumeric(lower[end]) {
				continue
			}
			if seen == nil {
				seen = map[string]bool{}
			}
			seen[words] = true
			found = append(found, find{w.what[words], words, lower[max(0, at-200):min(len(lower), end+80)]})
		}
	}
	return found
}

func alphanumeric(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' }

// Whose words are not about patients.
var impersonal = map[string]bool{"Organization": true, "Location": true, "Provenance": true, "Practitioner": true, "PractitionerRole": true, "HealthcareService": true, "Endpoint": true,
	"OperationOutcome": true, "SearchParameter": true, "Subscription": true, "StructureDefinition": true, "CapabilityStatement": true, "ValueSet": true, "CodeSystem": true, "Schedule": true, "Slot": true, "Device": true}

// The elements in which people write what they like.
var free = map[string]bool{"text": true, "valueString": true, "description": true, "title": true, "comment": true, "div": true, "conclusion": true, "line": true, "data": true}

// cut is how much of free text is looked for: what is cut off leaks as well.
const cut = 20

// learn takes from resources the words that can be nothing else: numbers with their check digit, patients' family names and birth dates, addresses, and text of
// more than a few words or in the form of a canary.
func (w *words) learn(raw []byte) {
	var all map[string]any
	if json.Unmarshal(raw, &all) == nil && all["resourceType"] != nil {
		w.walk(false, "", all)
	}
}

// A canary is a word of capitals and at least two figures, or as sim/world's are.
var canaryWord = regexp.MustCompile(`^(?:[A-Z]{5,}[0-9]{2,}|CNRY[A-Z2-7]{26})$`)

func (w *words) walk(person bool, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if typ, ok := v["resourceType"].(string); ok {
			if impersonal[typ] {
				return
			}
			person = typ == "Patient" || typ == "RelatedPerson"
		}
		if person && name == "name" {
			w.name(v)
		}
		if person && name == "identifier" {
			w.local(v)
		}
		coded, _ := v["coding"].([]any)
		for k, x := range v {
			if text, ok := x.(string); ok && k == "text" && len(coded) > 0 {
				w.term(text)
				continue
			}
			w.walk(person, k, x)
		}
	case []any:
		for _, x := range v {
			w.walk(person, name, x)
		}
	case string:
		v = strings.TrimSpace(v)
		switch {
		case (name == "value" || name == "valueString") && isNumber(v):
			w.number(v)
		case person && name == "family" && len(v) >= longFamily:
			w.hide(aName, v)
		case person && name == "birthDate":
			w.birth(v)
		case free[name]:
			w.prose(v, name == "data")
		}
	}
}

// name hides a HumanName: its given names that can be nothing else, and each with the family name, in the orders in which names are written.
func (w *words) name(v map[string]any) {
	family, _ := v["family"].(string)
	all, _ := v["given"].([]any)
	for _, g := range all {
		if given, ok := g.(string); ok {
			w.called(strings.TrimSpace(given), strings.TrimSpace(family))
		}
	}
}

func (w *words) called(given, family string) {
	if onlyName.MatchString(given) && !alsoWords[strings.ToLower(given)] {
		w.hide(aGiven, given)
		return
	}
	if len(given) < 2 || len(family) < 2 || len(family) >= longFamily {
		return
	}
	for _, whole := range []string{given + " " + family, family + " " + given, family + ", " + given, family + "^" + given, given + "^" + family} {
		w.hide(aWhole, whole)
	}
}

// onlyName is a given name that is long enough to be no abbreviation, and has nothing in it but letters.
var onlyName = regexp.MustCompile(`^\pL{5,}$`)

// alsoWords are given names, of examples too, that are words of English or of this program, months or places too, so that they say nothing by themselves.
var alsoWords = map[string]bool{}

func init() {
	for name := range strings.FieldsSeq(`bundle known smart
		angel april august austin autumn basil bishop brandy brook carol chance charity chase chelsea chester china christian clark clement cliff
		colin constance cooper crystal daisy dallas destiny dixie ebony ember emery ernest faith felicity flora florence forest foster frank franklin georgia ginger grace grant
		guide harmony harper hazel heath heather hector holly honor honour hunter india israel ivory jasmine jersey jordan journey joyce justice karma kelvin lance lancaster laurel
		lincoln london madison major marina marsh mason mercy merit miles minor mister morgan myrtle nancy olive paige paris patience patient pearl penny peony phoenix poppy porter
		preston prince prudence queen ranger reign river robin romance ruler rusty sailor sandy saint salem scarlet scott serenity severn sierra sister skipper sonny south spencer
		stanley sterling storm story summer sunny sydney temple tracy trent trinity unknown usual verity victor victoria violet virginia walker warren windsor winter woody`) {
		alsoWords[name] = true
	}
}

// local hides what a patient is called by one source: its number there, if it has so many figures that it is nothing else.
func (w *words) local(v map[string]any) {
	if n, ok := v["value"].(string); ok && localNumber.MatchString(n) && !isNumber(n) {
		w.hide(aLocal, n)
	}
}

var localNumber = regexp.MustCompile(`^[A-Za-z]{0,4}[-/ ]?[0-9]{5,}[A-Za-z]?$`)

// term takes the words of a code, which are whoever's who has the code.
func (w *words) term(v string) {
	w.canaries(v)
	was := w.owner
	if was != "" {
		w.owner = anybody
	}
	w.written(v, false)
	w.owner = was
}

func (w *words) number(v string) {
	w.hide(aNumber, v)
	w.hide(aNumber, v[:3]+" "+v[3:6]+" "+v[6:])
}

func (w *words) birth(v string) {
	if len(v) == len("1948-03-12") && v < "2020" {
		w.hide(aBirth, v)
	}
}

func (w *words) canaries(v string) {
	for f := range strings.FieldsSeq(v) {
		if f = strings.Trim(f, ".,;:()"); canaryWord.MatchString(f) {
			w.hide(aCanary, f)
		}
	}
}

func (w *words) prose(v string, one bool) {
	w.canaries(v)
	w.written(v, one)
}

func (w *words) written(v string, one bool) {
	if len(v) >= cut && (one || strings.Contains(v, " ")) {
		w.hide(freeText, v[:cut])
	}
}

// Between words of HL7 v2, of tables, of markup and of JSON.
const between = "|^~&\r\n\t,;\"<>={}[]\x0b\x1c"

// learnRaw takes them from bytes of which nobody knows how to take them apart: what could not be taken.
func (w *words) learnRaw(raw []byte) {
	if w.learn(raw); len(raw) > most {
		raw = raw[:most]
	}
	for line := range bytes.FieldsFuncSeq(raw, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if fields := bytes.Split(line, []byte("|")); len(fields) > 7 && string(fields[0]) == "PID" { // HL7 v2.5.1 §3.4.2
			if family, _, _ := bytes.Cut(fields[5], []byte("^")); len(family) >= longFamily {
				w.hide(aName, string(family))
			}
			if family, given, ok := bytes.Cut(fields[5], []byte("^")); ok {
				given, _, _ = bytes.Cut(given, []byte("^"))
				w.called(string(given), string(family))
			}
			if d := fields[7]; len(d) >= 8 {
				w.birth(string(d[:4]) + "-" + string(d[4:6]) + "-" + string(d[6:8]))
				w.hide(aBirth, string(d[:8]))
			}
		}
		for v := range bytes.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(between, r) }) {
			switch v := strings.TrimSpace(string(v)); {
			case isNumber(v):
				w.number(v)
			case utterance.MatchString(v):
				w.prose(v, false)
			case canaryWord.MatchString(v):
				w.hide(aCanary, v)
			}
		}
	}
}

// An utterance is what somebody wrote, and no path, code or line of a format.
var utterance = regexp.MustCompile(`^[A-Za-z][^\x00-\x1f\\/:]{3,} [^\x00-\x1f\\]{3,} \S`)

func isNumber(s string) bool {
	number, err := fhir.ParseNHSNumber(s)
	return err == nil && number.Digits() == s
}
