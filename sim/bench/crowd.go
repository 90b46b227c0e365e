package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// A crowd is as many people's records as are wanted, the same for the same source: copies of a few dozen records with ids of their own.
type crowd struct {
	about   string
	records []pattern
}

// A pattern is one person's record, cut where ids stand.
type pattern struct {
	patient   string // its id
	resources []patternResource
}

type patternResource struct {
	shared bool // nobody's: an organisation, a practitioner
	typ    string
	pieces []string // of the compact JSON; between two of them stands an id of the record
	ids    []string
}

// A given is a resource as it is handed to the store.
type given struct {
	raw     []byte
	patient string // in whose record; "" if nobody's
}

// openCrowd reads Synthea's transaction bundles in a folder; with none it makes so many records like them, of its own.
func openCrowd(folder string, seed uint64, made int) (*crowd, error) {
	if folder == "" {
		return madeCrowd(seed, made), nil
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	c := &crowd{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		p, err := readPattern(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if p != nil {
			c.records = append(c.records, *p)
		}
	}
	if len(c.records) == 0 {
		return nil, fhir.Errorf(fhir.NotFound, "there are no bundles with a patient in %s: give a folder of Synthea's fhir output", folder)
	}
	c.about = fmt.Sprintf("%d Synthea bundles, copied with new ids", len(c.records))
	return c, nil
}

var uuid = regexp.MustCompile(`(urn:uuid:)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// readPattern reads a bundle of one patient; nil if it has none.
func readPattern(data []byte) (*pattern, error) {
	var b struct {
		Entry []struct {
			Resource json.RawMessage `json:"resource"`
		} `json:"entry"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	p := &pattern{}
	types := map[string]string{} // id -> type
	var raws [][]byte
	for _, e := range b.Entry {
		var head struct {
			Type string `json:"resourceType"`
			ID   string `json:"id"`
		}
		var compact bytes.Buffer
		if err := json.Unmarshal(e.Resource, &head); err != nil {
			return nil, err
		}
		if err := json.Compact(&compact, e.Resource); err != nil {
			return nil, err
		}
		if head.Type == "Patient" {
			p.patient = head.ID
		}
		types[head.ID] = head.Type
		p.resources = append(p.resources, patternResource{typ: head.Type, shared: shared(head.Type)})
		raws = append(raws, compact.Bytes())
	}
	if p.patient == "" {
		return nil, nil
	}
	for i, raw := range raws {
		p.resources[i].cut(string(raw), types)
	}
	return p, nil
}

func shared(typ string) bool {
	return typ == "Organization" || typ == "Practitioner" || typ == "Location" || typ == "Device" || typ == "Medication"
}

// cut divides the JSON where an id of the record stands, and makes references by id of those by urn:uuid.
func (r *patternResource) cut(raw string, types map[string]string) {
	at := 0
	piece := ""
	for _, m := range uuid.FindAllStringIndex(raw, -1) {
		text := raw[m[0]:m[1]]
		id := strings.TrimPrefix(text, "urn:uuid:")
		typ, known := types[id]
		piece += raw[at:m[0]]
		at = m[1]
		if known && id != text {
			piece += typ + "/"
		}
		if !known || shared(typ) {
			piece += id
			if !known && id != text {
				piece = piece[:len(piece)-len(id)] + text
			}
			continue
		}
		r.pieces, r.ids = append(r.pieces, piece), append(r.ids, id)
		piece = ""
	}
	r.pieces = append(r.pieces, piece+raw[at:])
}

// renamed is an id of the nth copy.
func renamed(id string, n int) string {
	head, err := strconv.ParseUint(id[:8], 16, 32)
	if n == 0 || err != nil {
		return id
	}
	return fmt.Sprintf("%08x", uint32(head)^uint32(n)*2654435761) + id[8:]
}

// person is the record of the nth person. Those who are nobody's come with the first copy only.
func (c *crowd) person(n int) []given {
	p, copied := c.records[n%len(c.records)], n/len(c.records)
	patient := renamed(p.patient, copied)
	out := make([]given, 0, len(p.resources))
	for _, r := range p.resources {
		if r.shared && copied > 0 {
			continue
		}
		var b []byte
		for i, piece := range r.pieces {
			b = append(b, piece...)
			if i < len(r.ids) {
				b = append(b, renamed(r.ids[i], copied)...)
			}
		}
		g := given{raw: b, patient: patient}
		if r.shared {
			g.patient = ""
		}
		out = append(out, g)
	}
	return out
}

// bundle is the record of the nth person as a transaction. FHIR R4 http.html#transaction
func (c *crowd) bundle(n int) []byte {
	b := []byte(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i, g := range c.person(n) {
		if i > 0 {
			b = append(b, ',')
		}
		r, err := fhir.Parse(g.raw)
		if err != nil {
			panic("bench: " + err.Error()) // this program made it
		}
		b = append(b, `{"resource":`...)
		b = append(b, g.raw...)
		b = append(b, `,"request":{"method":"PUT","url":"`...)
		b = append(append(b, r.Ref()...), `"}}`...)
	}
	return append(b, "]}"...)
}

// codes are the codes that resources of a type have, as search values system|code, the most frequent first.
func (c *crowd) codes(typ string) []string {
	count := c.frequency(typ)
	out := make([]string, 0, len(count))
	for k := range count {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := count[b] - count[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return out
}

// size is how many resources the records have that are copied.
func (c *crowd) size() (n int) {
	for _, p := range c.records {
		n += len(p.resources)
	}
	return n
}

// frequency is how often each code stands in resources of a type.
func (c *crowd) frequency(typ string) map[string]int {
	count := map[string]int{}
	for _, p := range c.records {
		for _, r := range p.resources {
			if r.typ != typ {
				continue
			}
			var v struct {
				Code struct {
					Coding []struct{ System, Code string }
				}
			}
			if json.Unmarshal([]byte(strings.Join(r.pieces, "")), &v) == nil {
				for _, k := range v.Code.Coding {
					count[k.System+"|"+k.Code]++
				}
			}
		}
	}
	return count
}

// madeCrowd makes so many records in the proportions of Synthea's: a third results, a quarter claims, a mean of 1.2 kB a resource.
func madeCrowd(seed uint64, people int) *crowd {
	c := &crowd{about: fmt.Sprintf("%d made records, copied with new ids", people)}
	for n := range people {
		rnd := rand.New(rand.NewPCG(seed, uint64(n)))
		m := &maker{rnd: rnd}
		types := map[string]string{}
		patient := m.id()
		add := func(typ, id string, f fhir.M) {
			types[id] = typ
			m.raws = append(m.raws, fhir.New(typ, id, f).Raw())
		}
		add("Patient", patient, fhir.M{"name": []fhir.M{{"family": m.word(400), "given": []string{m.word(300)}}}, "gender": []string{"male", "female"}[n%2],
			"birthDate": fmt.Sprintf("19%02d-%02d-%02d", rnd.IntN(90)+10, 1+rnd.IntN(12), 1+rnd.IntN(28)), "identifier": []fhir.Identifier{{System: "urn:bench:patient", Value: patient}}})
		for range 60 + rnd.IntN(120) {
			visit, when := m.id(), m.when()
			about := fhir.M{"subject": fhir.Reference{Reference: "Patient/" + patient}, "encounter": fhir.Reference{Reference: "Encounter/" + visit}}
			add("Encounter", visit, fhir.M{"status": "finished", "class": fhir.M{"code": "AMB"}, "subject": about["subject"], "period": fhir.M{"start": when, "end": when},
				"type": []any{m.code("enc", 40)}, "text": m.narrative()})
			for range rnd.IntN(5) {
				add("Observation", m.id(), fhir.M{"status": "final", "code": m.code("obs", 150), "subject": about["subject"], "encounter": about["encounter"], "effectiveDateTime": when, "issued": when,
					"valueQuantity": fhir.Quantity{Value: json.Number(fmt.Sprintf("%d.%d", rnd.IntN(200), rnd.IntN(10))), Unit: "mmol/L", System: fhir.SystemUCUM, Code: "mmol/L"},
					"category":      []fhir.CodeableConcept{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "laboratory")}})
			}
			for _, typ := range []string{"Claim", "ExplanationOfBenefit"} {
				add(typ, m.id(), fhir.M{"status": "active", "use": "claim", "patient": about["subject"], "created": when, "billablePeriod": fhir.M{"start": when, "end": when},
					"type": m.code("claim", 3), "item": []fhir.M{{"sequence": 1, "productOrService": m.code("enc", 40), "encounter": []any{about["encounter"]}}}, "text": m.narrative()})
			}
			if rnd.IntN(3) == 0 {
				add("Condition", m.id(), fhir.M{"code": m.code("con", 250), "subject": about["subject"], "encounter": about["encounter"], "onsetDateTime": when, "recordedDate": when,
					"clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "")})
			}
			if rnd.IntN(2) == 0 {
				add("Procedure", m.id(), fhir.M{"status": "completed", "code": m.code("pro", 120), "subject": about["subject"], "encounter": about["encounter"], "performedPeriod": fhir.M{"start": when, "end": when}})
				add("MedicationRequest", m.id(), fhir.M{"status": "stopped", "intent": "order", "medicationCodeableConcept": m.code("med", 180), "subject": about["subject"],
					"encounter": about["encounter"], "authoredOn": when})
			}
		}
		p := pattern{patient: patient}
		for _, raw := range m.raws {
			r, err := fhir.Parse(raw)
			if err != nil {
				panic("bench: " + err.Error())
			}
			pr := patternResource{typ: r.Type()}
			pr.cut(string(raw), types)
			p.resources = append(p.resources, pr)
		}
		c.records = append(c.records, p)
	}
	return c
}

// A maker makes values.
type maker struct {
	rnd  *rand.Rand
	raws [][]byte
}

func (m *maker) id() string {
	a, b := m.rnd.Uint64(), m.rnd.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48), uint16(b), b>>16)
}

func (m *maker) word(of int) string {
	n := m.rnd.IntN(of)
	return string(rune('A'+n%26)) + strings.Repeat(string(rune('a'+n/26)), 3) + strconv.Itoa(n)
}

func (m *maker) when() string {
	return fmt.Sprintf("20%02d-%02d-%02dT%02d:%02d:00+00:00", m.rnd.IntN(26), 1+m.rnd.IntN(12), 1+m.rnd.IntN(28), m.rnd.IntN(24), m.rnd.IntN(60))
}

// code draws one of so many codes, the first ones far more often.
func (m *maker) code(kind string, of int) fhir.CodeableConcept {
	n := int(float64(of) * m.rnd.Float64() * m.rnd.Float64())
	return fhir.Code("urn:bench:"+kind, strconv.Itoa(10_000_000+7919*n), "What the code "+strconv.Itoa(n)+" of "+kind+" says")
}

func (m *maker) narrative() fhir.M {
	var b strings.Builder
	for range 90 {
		b.WriteString(m.word(500) + " ")
	}
	return fhir.M{"status": "generated", "div": `<div xmlns="http://www.w3.org/1999/xhtml">` + b.String() + "</div>"}
}
