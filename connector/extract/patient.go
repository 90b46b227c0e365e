package extract

import (
	"errors"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A description is one key of a patient block.
type description struct {
	key, path string
	read      func(value) (value, error)
	constants [][2]string
}

// describing are the keys of a patient block, with the element each fills and how the cell is read. Everything is checked: a row with
// an NHS number that cannot be anybody's is refused whole.
var describing = []description{
	{"id", "identifier[0].value", nil, nil},
	{"nhs", "identifier[1].value", national, [][2]string{{"identifier[1].system", fhir.SystemNHSNumber}}},
	{"chi", "identifier[2].value", national, [][2]string{{"identifier[2].system", fhir.SystemCHI}}},
	{"hcn", "identifier[3].value", national, [][2]string{{"identifier[3].system", fhir.SystemHCN}}},
	{"family", "name[0].family", nil, [][2]string{{"name[0].use", "official"}}},
	{"given", "name[0].given", words, nil},
	{"prefix", "name[0].prefix", words, nil},
	{"preferred", "name[1].given", words, [][2]string{{"name[1].use", "usual"}}},
	{"born", "birthDate", dated, nil},
	{"died", "deceasedDateTime", moments, nil},
	{"gender", "gender", gender, nil},
	{"address", "address[0].line", lines, nil},
	{"city", "address[0].city", nil, nil},
	{"district", "address[0].district", nil, nil},
	{"postcode", "address[0].postalCode", capitals, nil},
	{"country", "address[0].country", nil, nil},
	{"phone", "telecom[0].value", nil, [][2]string{{"telecom[0].system", "phone"}}},
	{"mobile", "telecom[1].value", nil, [][2]string{{"telecom[1].system", "phone"}, {"telecom[1].use", "mobile"}}},
	{"email", "telecom[2].value", nil, [][2]string{{"telecom[2].system", "email"}}},
	{"practice", "generalPractitioner[0].identifier.value", capitals, [][2]string{{"generalPractitioner[0].identifier.system", fhir.SystemODS}}},
	// PDS marks a person whose whereabouts must not be shown with confidentiality R.
	{"restricted", "meta.security[0].code", restricted, [][2]string{{"meta.security[0].system", fhir.SystemConfidentiality}}},
}

// patient compiles the patient block of a file: the mapping's, unless the file has its own.
func (b *builder) patient(k *compiler, y *yamlFile, f *file) {
	p := y.Patient
	if !p.given {
		p = b.y.Patient
	}
	if !p.given || p.bad {
		b.wrong(f.at, "%s: patient: say in which columns the patient is told, at least id: the source's own number", f.glob)
		return
	}
	mk := &maker{typ: "Patient", root: new(node), at: p.at}
	system := ""
	for _, e := range p.list {
		if e.key.s == "system" {
			system = e.value.s
			continue
		}
		i := slices.IndexFunc(describing, func(d description) bool { return d.key == e.key.s })
		if i < 0 {
			b.wrong(e.key.at, "patient: there is no key %q%s", e.key.s, nearest(e.key.s, patientKeys()))
			continue
		}
		x := b.expr(k, e.value, "patient: "+e.key.s)
		if x == nil {
			continue
		}
		if e.key.s == "id" {
			f.id = x
			continue
		}
		f.told = append(f.told, e.key.s)
		d := describing[i]
		if d.read != nil {
			x = reading(k, x, d.read)
		}
		b.place(mk, e.key.at, d.path, x, d.constants)
	}
	if f.id == nil {
		b.wrong(p.at, "%s: patient: id is missing: the column with the source's own number of the patient", f.glob)
		return
	}
	if len(f.told) == 0 {
		return // the rows only refer to the patient
	}
	slices.Sort(f.told)
	if system != "" {
		b.place(mk, p.at, "identifier[0].value", f.id, [][2]string{{"identifier[0].system", system}})
	}
	mk.root.refresh()
	f.patient = mk
}

func (b *builder) place(mk *maker, at place, path string, x *expr, constants [][2]string) {
	for _, c := range constants {
		if err := mk.root.insert(c[0], nil, quote(nil, c[1])); err != nil {
			b.wrong(at, "%s", err)
		}
	}
	if err := mk.root.insert(path, x, nil); err != nil {
		b.wrong(at, "%s", err)
	}
}

func patientKeys() []string {
	out := []string{"system"}
	for _, d := range describing {
		out = append(out, d.key)
	}
	return out
}

func reading(k *compiler, x *expr, read func(value) (value, error)) *expr {
	return k.make(func(c *cells) (value, error) {
		v, err := x.eval(c)
		if err != nil || v.kind == absent {
			return nothing, err
		}
		if v, err = read(v); err != nil {
			return nothing, blame(err, []*expr{x})
		}
		return v, nil
	}, x)
}

func national(v value) (value, error) { return toNHS(v.str()) }

func dated(v value) (value, error) { return toDate(v.str()) }

func moments(v value) (value, error) {
	m, err := parseMoment(v.str())
	if err != nil {
		return nothing, err
	}
	return textOf(m.dateTime()), nil
}

func capitals(v value) (value, error) { return textOf(strings.ToUpper(v.str())), nil }

func words(v value) (value, error) {
	if v.kind == list {
		return v, nil
	}
	return listOf(strings.Fields(v.str())), nil
}

func lines(v value) (value, error) {
	if v.kind == list {
		return v, nil
	}
	var out []string
	for line := range strings.SplitSeq(v.str(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return listOf(out), nil
}

func restricted(v value) (value, error) {
	if v.kind != boolean {
		var err error
		if v, err = toBool(v.str()); err != nil {
			return nothing, err
		}
	}
	if v.truth() {
		return textOf("R"), nil
	}
	return nothing, nil
}

// genders are the words and the NHS Data Dictionary's codes (PERSON STATED GENDER CODE). FHIR R4 valueset-administrative-gender.html
var genders = map[string]string{
	"f": "female", "female": "female", "2": "female", "m": "male", "male": "male", "1": "male",
	"o": "other", "other": "other", "i": "other", "indeterminate": "other", "9": "other",
	"u": "unknown", "unknown": "unknown", "not known": "unknown", "0": "unknown", "x": "unknown",
}

func gender(v value) (value, error) {
	if g, ok := genders[strings.ToLower(v.str())]; ok {
		return textOf(g), nil
	}
	return nothing, errors.New("not a gender code: M, F, 1, 2, 9, X, male, female, other or unknown; use lookup(…) for other codes")
}
