// Package mpi is the master patient index: which source patients are the same person.
//
// A person here is a list of links to source Patients and the demographics they agree on, kept in a private bucket and rebuilt by
// reading the log from zero. Nothing else in the store is keyed by person: linking and unlinking touch this room
// alone (design law 10). Links are made on a shared national number confirmed by demographics; on likeness, if there is no doubt
// (mpi/match); and by stewards, whose word goes before both and can be taken back.
package mpi

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Person is one human, as the sources that know them describe them.
type Person struct {
	ID          string            `json:"id"` // opaque
	Patients    []Patient         `json:"patients"`
	NHSNumber   string            `json:"nhs,omitempty"`
	Identifiers []fhir.Identifier `json:"identifiers,omitempty"`
	Name        fhir.HumanName    `json:"name"`
	BirthDate   string            `json:"born,omitempty"`
	Gender      string            `json:"gender,omitempty"`
	Address     *fhir.Address     `json:"address,omitempty"`
	Phone       string            `json:"phone,omitempty"`
	Deceased    string            `json:"deceased,omitempty"` // date, "true", or ""
	Practice    string            `json:"practice,omitempty"` // ODS code
	Restricted  bool              `json:"restricted,omitempty"`
	Superseded  []string          `json:"superseded,omitempty"` // national numbers this person had before
}

// A Patient is one source's Patient, as far as identity goes.
type Patient struct {
	ID          string            `json:"id"` // this server's id of the Patient resource
	Source      string            `json:"source"`
	Original    string            `json:"original"` // the source's own id
	Identifiers []fhir.Identifier `json:"identifiers,omitempty"`
	Name        fhir.HumanName    `json:"name"`
	OtherNames  []fhir.HumanName  `json:"otherNames,omitempty"` // former ones, and those they also use
	BirthDate   string            `json:"born,omitempty"`
	Gender      string            `json:"gender,omitempty"`
	Address     *fhir.Address     `json:"address,omitempty"`
	Phone       string            `json:"phone,omitempty"`
	Deceased    string            `json:"deceased,omitempty"`
	Practice    string            `json:"practice,omitempty"`
	Maiden      string            `json:"maiden,omitempty"` // the mother's family name before marriage
	Restricted  bool              `json:"restricted,omitempty"`
	Trusted     bool              `json:"trusted,omitempty"`    // told of by the register that gives out its numbers
	Redacted    bool              `json:"redacted,omitempty"`   // the register says that its number is nobody's
	ReplacedBy  string            `json:"replacedBy,omitempty"` // id of the Patient that took over
	Active      bool              `json:"active"`
	Doubted     []string          `json:"doubted,omitempty"`  // identifiers, system|value, that are not believed of this patient
	Together    []string          `json:"together,omitempty"` // ids of patients who a steward says are the same person
	Apart       []string          `json:"apart,omitempty"`    // ids of patients who a steward says are not
	At          time.Time         `json:"at"`
}

// bears reports whether a patient has an identifier, now or formerly, and is believed to.
func (q *Patient) bears(id fhir.Identifier) bool {
	return !q.Doubts(id) && slices.ContainsFunc(q.Identifiers, func(k fhir.Identifier) bool { return k.System == id.System && k.Value == id.Value })
}

// FromResource reads a Patient resource for what identity needs. source is the system that sent it.
func FromResource(source string, r *fhir.Resource) Patient {
	p := Patient{ID: r.ID(), Source: source, Identifiers: r.Identifiers(), BirthDate: r.Text("birthDate"), Gender: r.Text("gender"),
		Active: r.Text("active") != "false"}
	if _, frag, ok := strings.Cut(r.Text("meta.source"), "#"); ok {
		p.Original = frag
	}
	p.Name, p.OtherNames = names(r)
	if a := currentAddress(r); a != nil {
		p.Address = a
	}
	for v := range r.Value().All("telecom") {
		if v.Text("system") == "phone" && v.Text("use") != "old" {
			p.Phone = v.Text("value")
			break
		}
	}
	if d := r.Text("deceasedDateTime"); d != "" {
		p.Deceased = d
	} else if r.Get("deceasedBoolean").Bool() {
		p.Deceased = "true"
	}
	for v := range r.Value().All("generalPractitioner.identifier") {
		if fhir.CanonicalSystem(v.Text("system")) == fhir.SystemODS {
			p.Practice = v.Text("value")
			break
		}
	}
	for v := range r.Value().All("extension") {
		if v.Text("url") == ExtMothersMaidenName {
			p.Maiden = v.Text("valueString")
		}
	}
	for v := range r.Value().All("meta.security.code") {
		p.Restricted = p.Restricted || v.Str() == "R" || v.Str() == "V"
		p.Redacted = p.Redacted || v.Str() == "REDACTED"
	}
	for v := range r.Value().All("link") {
		if v.Text("type") == "replaced-by" {
			p.ReplacedBy = fhir.Ref(v.Text("other.reference")).ID()
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, r.Text("meta.lastUpdated")); err == nil {
		p.At = t
	}
	return p
}

// ExtMothersMaidenName holds the mother's family name before marriage. FHIR R4 extension-patient-mothersmaidenname.html
const ExtMothersMaidenName = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"

// names are the name a patient is called by, official before usual before any, and the others.
func names(r *fhir.Resource) (best fhir.HumanName, others []fhir.HumanName) {
	rank := -1
	for v := range r.Value().All("name") {
		var n fhir.HumanName
		if v.Decode(&n) != nil {
			continue
		}
		k := map[string]int{"official": 3, "usual": 2, "": 1}[n.Use]
		if k <= rank {
			others = append(others, n)
			continue
		}
		if rank >= 0 {
			others = append(others, best)
		}
		best, rank = n, k
	}
	return best, others
}

func currentAddress(r *fhir.Resource) *fhir.Address {
	for v := range r.Value().All("address") {
		var a fhir.Address
		if v.Decode(&a) == nil && a.Use != "old" {
			return &a
		}
	}
	return nil
}

// nationalNumbers are the identifiers by which a person is known across organisations, current ones first.
func nationalNumbers(ids []fhir.Identifier) []fhir.Identifier {
	var out []fhir.Identifier
	for _, id := range ids {
		switch id.System {
		case fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN:
			if id.Check() == nil {
				out = append(out, id)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b fhir.Identifier) int { return cmp.Compare(old(a), old(b)) })
	return out
}

func old(id fhir.Identifier) int {
	if id.Use == "old" {
		return 1
	}
	return 0
}

// Agree compares two descriptions of a human. They agree when the birth dates are the same or the names are; one of the two may
// be wrong or missing, not both. A shared number without agreement is a mistyped number.
func Agree(aName, bName fhir.HumanName, aBorn, bBorn string) bool {
	sameName := foldName(aName.Family) != "" && foldName(aName.Family) == foldName(bName.Family) && sameGiven(aName, bName)
	sameBorn := aBorn != "" && aBorn == bBorn
	return sameName || sameBorn && (sameFamilyOrGiven(aName, bName))
}

func sameGiven(a, b fhir.HumanName) bool {
	if len(a.Given) == 0 || len(b.Given) == 0 {
		return true
	}
	x, y := foldName(a.Given[0]), foldName(b.Given[0])
	return x == y || len(x) == 1 && strings.HasPrefix(y, x) || len(y) == 1 && strings.HasPrefix(x, y)
}

// sameFamilyOrGiven allows one of the two to have changed: a surname on marriage, a forename by choice.
func sameFamilyOrGiven(a, b fhir.HumanName) bool {
	if foldName(a.Family) == foldName(b.Family) || a.Family == "" || b.Family == "" {
		return true
	}
	return len(a.Given) > 0 && len(b.Given) > 0 && sameGiven(a, b)
}

func foldName(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) {
			return c
		}
		return -1
	}, norm.NFKD.String(strings.ToLower(s)))
}

// settle works out what the person is called and where they live from the patients linked: the newest active source that
// says a thing is believed, and what one leaves open another fills; what this node repeated of them when it recorded a choice comes last. Warnings (death, restriction) from any source hold.
func (p *Person) settle() {
	slices.SortFunc(p.Patients, func(a, b Patient) int {
		return cmp.Or(boolCompare(a.Source == connector.Own, b.Source == connector.Own), -boolCompare(a.Active && a.ReplacedBy == "", b.Active && b.ReplacedBy == ""), -a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
	})
	*p = Person{ID: p.ID, Patients: p.Patients}
	seen := map[string]bool{}
	p.believe(seen)
	for _, q := range p.Patients {
		if p.Name.Family == "" && len(p.Name.Given) == 0 {
			p.Name = q.Name
		}
		p.BirthDate = cmp.Or(p.BirthDate, q.BirthDate)
		p.Gender = cmp.Or(p.Gender, q.Gender)
		p.Phone = cmp.Or(p.Phone, q.Phone)
		p.Practice = cmp.Or(p.Practice, q.Practice)
		p.Deceased = cmp.Or(p.Deceased, q.Deceased)
		if p.Address == nil {
			p.Address = q.Address
		}
		p.Restricted = p.Restricted || q.Restricted
		for _, id := range q.Identifiers {
			k := id.System + "|" + id.Value
			if seen[k] || q.Doubts(id) {
				continue
			}
			seen[k] = true
			if id.System == fhir.SystemNHSNumber && id.Check() == nil {
				switch {
				case id.Use == "old":
					p.Superseded = append(p.Superseded, id.Value)
					continue
				case p.NHSNumber == "":
					p.NHSNumber = id.Value
				}
			}
			p.Identifiers = append(p.Identifiers, fhir.Identifier{System: id.System, Value: id.Value})
		}
	}
	p.Superseded = slices.DeleteFunc(p.Superseded, func(s string) bool { return s == p.NHSNumber })
}

// believe takes first what the register says: the number in use, those it gave way to, the practice and death. seen are identifiers that are settled by it.
func (p *Person) believe(seen map[string]bool) {
	for _, q := range p.Patients {
		if !q.Trusted || q.ReplacedBy != "" || !q.Active {
			continue
		}
		p.Practice = cmp.Or(p.Practice, q.Practice)
		p.Deceased = cmp.Or(p.Deceased, q.Deceased)
		for _, id := range q.Identifiers {
			if id.System != fhir.SystemNHSNumber || id.Check() != nil || q.Doubts(id) || seen[id.System+"|"+id.Value] {
				continue
			}
			seen[id.System+"|"+id.Value] = true
			if id.Use == "old" {
				p.Superseded = append(p.Superseded, id.Value)
				continue
			}
			p.NHSNumber = cmp.Or(p.NHSNumber, id.Value)
			p.Identifiers = append(p.Identifiers, fhir.Identifier{System: id.System, Value: id.Value})
		}
	}
}

// Doubts reports whether an identifier is not believed of the patient.
func (q Patient) Doubts(id fhir.Identifier) bool {
	return slices.Contains(q.Doubted, id.System+"|"+id.Value)
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// At reports whether a source has a patient linked to the person, and gives that patient.
func (p *Person) At(source string) (Patient, bool) {
	for _, q := range p.Patients {
		if q.Source == source && q.ReplacedBy == "" {
			return q, true
		}
	}
	for _, q := range p.Patients {
		if q.Source == source {
			return q, true
		}
	}
	return Patient{}, false
}

// PatientIDs are this server's ids of the person's patients at a source, replaced ones included: their data is still theirs.
func (p *Person) PatientIDs(source string) []string {
	var out []string
	for _, q := range p.Patients {
		if q.Source == source {
			out = append(out, q.ID)
		}
	}
	return out
}
