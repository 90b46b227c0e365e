package gather

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Reconcile groups what the sources say under one heading, so that the same thing is shown once with all its sources. Every
// member given is in exactly one entry of the answer: nothing is dropped and nothing of two versions is blended. The answer
// does not depend on the order of the members.
//
// Two members are the same thing when their types say so (sameThing); those that agree on the thing and differ in what matters
// (status, severity) are one entry flagged with the conflict, while medicines of different dose stay separate and
// are both flagged.
func Reconcile(h dataset.Heading, members []Member) []Entry {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), byRef(a.Resource, b.Resource))
	})
	children, members := nest(members)
	groups := group(members)
	entries := make([]Entry, 0, len(groups))
	for _, g := range groups {
		e := entry(g)
		for _, m := range g {
			for _, c := range group(children[key{m.Source, m.Resource.Ref()}]) {
				e.Related = append(e.Related, entry(c))
			}
		}
		sortEntries(e.Related)
		entries = append(entries, e)
	}
	switch h {
	case dataset.Medications:
		flagDoses(entries)
	case dataset.Allergies:
		flagNegation(entries)
	}
	sortEntries(entries)
	return entries
}

// byRef orders resources as their references do, without writing those out.
func byRef(a, b *fhir.Resource) int {
	return cmp.Or(cmp.Compare(a.Type(), b.Type()), cmp.Compare(a.ID(), b.ID()))
}

type key struct {
	source string
	ref    fhir.Ref
}

// nest takes out the members that belong under another of the same source: the issues of a repeat prescription and the statement
// made of it, the results of a report.
func nest(members []Member) (children map[key][]Member, tops []Member) {
	here := map[key]bool{}
	reportOf := map[key]key{}
	for _, m := range members {
		k := key{m.Source, m.Resource.Ref()}
		here[k] = true
		if m.Resource.Type() == "DiagnosticReport" {
			for _, path := range []string{"result.reference", "basedOn.reference"} { // its results, and the request that it answers
				for v := range m.Resource.Value().All(path) {
					reportOf[key{m.Source, fhir.Ref(v.Str())}] = k
				}
			}
		}
		if m.Resource.Type() == "Observation" {
			for v := range m.Resource.Value().All("hasMember.reference") {
				if c := (key{m.Source, fhir.Ref(v.Str())}); c != k {
					reportOf[c] = k
				}
			}
		}
	}
	children = map[key][]Member{}
	for _, m := range members {
		k := key{m.Source, m.Resource.Ref()}
		parent, ok := reportOf[k]
		if !ok && (m.Resource.Type() == "List" || m.Resource.Type() == "Observation") { // a consultation's topics, headings and notes
			parent, ok = key{m.Source, fhir.Ref(m.Resource.Text("encounter.reference"))}, true
		}
		if !ok && m.Resource.Type() == "MedicationRequest" {
			parent, ok = key{m.Source, fhir.Ref(m.Resource.Text("basedOn.reference"))}, true
		}
		// A chain of parents must end at a top, or the ring would vanish: follow it.
		if ok && here[parent] && parent != k && !nested(parent, k, reportOf) {
			children[top(parent, reportOf, here)] = append(children[top(parent, reportOf, here)], m)
			continue
		}
		tops = append(tops, m)
	}
	// A parent that is itself a child cannot carry children any more: give them to the top level.
	isTop := map[key]bool{}
	for _, m := range tops {
		isTop[key{m.Source, m.Resource.Ref()}] = true
	}
	for k, cs := range children {
		if !isTop[k] {
			tops = append(tops, cs...)
			delete(children, k)
		}
	}
	slices.SortFunc(tops, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), byRef(a.Resource, b.Resource))
	})
	return children, tops
}

// nested reports whether k stands above parent, which would make a ring.
func nested(parent, k key, above map[key]key) bool {
	for range 10 {
		p, ok := above[parent]
		if !ok {
			return false
		}
		if p == k {
			return true
		}
		parent = p
	}
	return true
}

func top(k key, above map[key]key, here map[key]bool) key {
	for range 10 {
		p, ok := above[k]
		if !ok || !here[p] {
			return k
		}
		k = p
	}
	return k
}

// group puts members that are the same thing together; each member lands in one group.
func group(members []Member) [][]Member {
	parent := make([]int, len(members))
	for i := range parent {
		parent[i] = i
	}
	find := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	seen := map[string]int{}
	for i, m := range members {
		for _, k := range marksOf(m).same {
			if j, ok := seen[k]; ok {
				a, b := find(i), find(j)
				parent[max(a, b)] = min(a, b)
			} else {
				seen[k] = i
			}
		}
	}
	at := map[int]int{}
	var groups [][]Member
	for i, m := range members {
		root := find(i)
		g, ok := at[root]
		if !ok {
			g = len(groups)
			at[root] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], m)
	}
	return groups
}

// marks are what tells of a member whether it is the same thing as another, and where it stands among others.
type marks struct {
	same []string
	rank int
	when string
}

func marksOf(m Member) *marks {
	if m.marks != nil {
		return m.marks
	}
	return &marks{sameThing(m), rankOf(m.Resource), sortable(dataset.When(m.Resource))}
}

// sameThing gives the keys under which a member is the same thing as another that has one of them. No keys: it is only itself.
func sameThing(m Member) []string {
	r := m.Resource
	about := conceptKeys(dataset.About(r))
	with := func(parts ...string) []string {
		var out []string
		for _, a := range about {
			out = append(out, r.Type()+"\x00"+a+"\x00"+strings.Join(parts, "\x00"))
		}
		return out
	}
	day := dayOf(dataset.When(r))
	switch r.Type() {
	case "Patient":
		return []string{"Patient"}
	case "AllergyIntolerance":
		return with()
	case "Condition":
		return with()
	case "MedicationRequest", "MedicationStatement":
		// Never across doses; and an issue on another day is another issue.
		issue, plan := "", r.Text("basedOn.reference")
		var out []string
		switch {
		case r.Type() == "MedicationStatement" && plan != "":
			out = append(out, "of\x00"+m.Source+"\x00"+plan) // what a GP system states of its own prescription is that prescription
		case plan != "":
			issue = day
		default:
			out = append(out, "of\x00"+m.Source+"\x00"+string(r.Ref()))
		}
		for _, a := range about {
			out = append(out, "Medication\x00"+a+"\x00"+dose(r)+"\x00"+issue)
		}
		return out
	case "Immunization", "Procedure", "ServiceRequest":
		if day == "" {
			return nil
		}
		return with(day)
	case "Observation":
		v := observed(r)
		if day == "" || v == "" {
			return nil
		}
		return with(day, v)
	case "Flag", "Consent", "FamilyMemberHistory", "Device", "RelatedPerson":
		if r.Type() == "RelatedPerson" {
			return []string{"RelatedPerson\x00" + nameKey(r)}
		}
		return with()
	case "DiagnosticReport", "Encounter", "Appointment", "DocumentReference", "Organization":
		var out []string
		for _, id := range r.Identifiers() {
			if id.System != "" {
				out = append(out, r.Type()+"\x00"+id.System+"|"+id.Value)
			}
		}
		return out
	}
	return nil
}

// nameKey is a person's name whichever way it is written: its words in alphabetical order, titles left out.
func nameKey(r *fhir.Resource) string {
	name := r.Get("name")
	said := name.Text("text")
	if name.Get("family").Exists() {
		said = name.Text("family")
		for g := range name.All("given") {
			said += " " + g.Str()
		}
	}
	words := strings.Fields(fold(said))
	words = slices.DeleteFunc(words, func(w string) bool { return slices.Contains([]string{"mr", "mrs", "ms", "miss", "mx", "dr"}, w) })
	slices.Sort(words)
	return strings.Join(words, " ")
}

// conceptKeys are what a concept can be recognised by: each code, and its words.
func conceptKeys(c fhir.CodeableConcept) []string {
	var out []string
	for _, k := range c.Coding {
		if k.Code != "" {
			out = append(out, k.System+"|"+k.Code)
		}
		if k.Display != "" {
			out = append(out, fold(k.Display))
		}
	}
	if c.Text != "" {
		out = append(out, fold(c.Text))
	}
	return out
}

// fold compares words as people do: case, accents, punctuation and the semantic tag in brackets do not count.
func fold(s string) string {
	if i := strings.LastIndex(s, " ("); i > 0 && strings.HasSuffix(s, ")") {
		s = s[:i]
	}
	var b strings.Builder
	space := false
	for _, c := range norm.NFKD.String(strings.ToLower(s)) {
		switch {
		case unicode.Is(unicode.Mn, c):
		case unicode.IsLetter(c) || unicode.IsDigit(c):
			if space && b.Len() > 0 {
				b.WriteByte(' ')
			}
			space = false
			b.WriteRune(c)
		default:
			space = true
		}
	}
	return b.String()
}

func dayOf(date string) string {
	if len(date) < 10 {
		return date
	}
	span, err := fhir.ParseDate(date)
	if err != nil {
		return date[:10]
	}
	return span.Start.In(fhir.London).Format("2006-01-02")
}

func dose(r *fhir.Resource) string {
	for _, p := range []string{"dosageInstruction", "dosage"} {
		if d := r.Get(p); d.Exists() {
			if t := d.Text("text"); t != "" {
				return fold(t)
			}
			return string(d.Raw())
		}
	}
	return ""
}

// observed is what was found, with its unit and whether it is above or below: 5 mmol/L is not 5 mg/dL, and <5 is not 5.
func observed(r *fhir.Resource) string {
	out := valueOf(r.Value())
	for c := range r.Value().All("component") {
		out += "," + c.Text("code.coding.code") + c.Text("code.text") + "=" + valueOf(c)
	}
	return out
}

func valueOf(v fhir.Value) string {
	for m := range v.Children() {
		switch key := m.Key(); {
		case key == "valueQuantity":
			unit := m.Text("unit")
			if unit == "" {
				unit = m.Text("code")
			}
			return m.Text("comparator") + m.Text("value") + "|" + unit
		case key == "valueCodeableConcept":
			return m.Text("coding.code") + "|" + m.Text("text")
		case strings.HasPrefix(key, "value"):
			return string(m.Raw())
		}
	}
	return ""
}

// entry makes one entry of a group: the lead is the version most recently said, and at the same time the most telling.
func entry(g []Member) Entry {
	if len(g) == 1 { // most are
		return Entry{Lead: g[0].Resource, Members: g}
	}
	lead := 0
	for i := 1; i < len(g); i++ {
		if better(g[i].Resource, g[lead].Resource) {
			lead = i
		}
	}
	members := append([]Member{g[lead]}, slices.Delete(slices.Clone(g), lead, lead+1)...)
	return Entry{Lead: g[lead].Resource, Members: members, Conflict: conflict(members)}
}

// better reports whether a should be shown rather than b. A repeat prescription is shown before the statement made of it.
func better(a, b *fhir.Resource) bool {
	if a.Type() != b.Type() {
		return a.Type() == "MedicationRequest"
	}
	if c := cmp.Compare(dataset.When(a), dataset.When(b)); c != 0 && a.Type() != "AllergyIntolerance" && a.Type() != "Condition" {
		return c > 0
	}
	if len(a.Raw()) != len(b.Raw()) {
		return len(a.Raw()) > len(b.Raw())
	}
	return byRef(a, b) < 0
}

// What must agree for two versions of a thing not to be in conflict, by type, and what it is called.
var mustAgree = map[string][]struct{ path, name string }{
	"AllergyIntolerance": {{"criticality", "criticality"}, {"clinicalStatus.coding.code", "status"}, {"verificationStatus.coding.code", "whether it is confirmed"}},
	"Condition":          {{"clinicalStatus.coding.code", "status"}, {"verificationStatus.coding.code", "whether it is confirmed"}},
	"Immunization":       {{"status", "whether it was given"}},
	"Patient":            {{"birthDate", "date of birth"}, {"gender", "gender"}, {"deceasedBoolean", "whether they have died"}},
	"DiagnosticReport":   {{"status", "status"}},
	"Appointment":        {{"status", "status"}, {"start", "time"}},
	"Flag":               {{"status", "status"}},
	"MedicationRequest":  {{"status", "status"}},
}

// sameVerification are the shades of holding something to be true, which are no disagreement: GP Connect calls every allergy
// unconfirmed. That one source refutes it is.
var sameVerification = map[string]string{"unconfirmed": "held", "confirmed": "held", "provisional": "held", "differential": "held"}

func conflict(members []Member) string {
	var found []string
	for _, f := range mustAgree[members[0].Resource.Type()] {
		said := map[string][]string{}
		for _, m := range members {
			if v := m.Resource.Text(f.path); v != "" && m.Resource.Type() == members[0].Resource.Type() {
				v = cmp.Or(sameVerification[v], v)
				said[v] = append(said[v], m.Name)
			}
		}
		if len(said) < 2 {
			continue
		}
		var parts []string
		for v, names := range said {
			parts = append(parts, v+" ("+strings.Join(slices.Compact(names), ", ")+")")
		}
		sort.Strings(parts)
		found = append(found, "Sources disagree on "+f.name+": "+strings.Join(parts, "; "))
	}
	return strings.Join(found, ". ")
}

// flagDoses marks medicines that are current in two entries with different doses. Both stay.
func flagDoses(entries []Entry) {
	for i := range entries {
		for j := range entries {
			a, b := entries[i].Lead, entries[j].Lead
			if i == j || !currentMedicine(a) || !currentMedicine(b) || !shareConcept(a, b) || dose(a) == dose(b) {
				continue
			}
			add(&entries[i].Conflict, "Sources disagree on the dose: "+nameOf(entries[j])+" has “"+doseWords(b)+"”")
		}
	}
}

func add(to *string, s string) {
	if *to != "" {
		s = *to + ". " + s
	}
	*to = s
}

func nameOf(e Entry) string { return e.Members[0].Name }

func doseWords(r *fhir.Resource) string {
	return cmp.Or(r.Text("dosageInstruction.text"), r.Text("dosage.text"), "no dose in words")
}

func currentMedicine(r *fhir.Resource) bool {
	return strings.HasPrefix(r.Type(), "Medication") && (r.Text("status") == "active" || r.Text("status") == "unknown")
}

func shareConcept(a, b *fhir.Resource) bool {
	for _, k := range conceptKeys(dataset.About(a)) {
		if slices.Contains(conceptKeys(dataset.About(b)), k) {
			return true
		}
	}
	return false
}

// Codes by which a source says that there are none. Only these may ever be shown as "no known allergies" (design law 3).
// "No known drug allergy" and its like are narrower, and are shown in their own words.
var noKnownAllergy = []string{"716186003", "no-known-allergies"}

// SaysNone reports whether an allergy entry is the explicit statement that none are known.
func SaysNone(r *fhir.Resource) bool {
	if r.Type() != "AllergyIntolerance" {
		return false
	}
	for c := range r.Value().All("code.coding.code") {
		if slices.Contains(noKnownAllergy, c.Str()) {
			return true
		}
	}
	return false
}

// flagNegation marks "no known allergies" from one source when another records one.
func flagNegation(entries []Entry) {
	positive := ""
	for _, e := range entries {
		if !SaysNone(e.Lead) && e.Lead.Type() == "AllergyIntolerance" {
			positive = nameOf(e)
			break
		}
	}
	if positive == "" {
		return
	}
	for i := range entries {
		if SaysNone(entries[i].Lead) {
			add(&entries[i].Conflict, "Sources disagree: "+positive+" records an allergy")
		}
	}
}

// sortEntries puts the most telling first: severe allergies, then newest, then by reference so that the order is the same every time.
func sortEntries(entries []Entry) {
	type placed struct {
		Entry
		rank int
		when string
	}
	at := make([]placed, len(entries))
	for i, e := range entries {
		m := marksOf(e.Members[0]) // the lead's own
		at[i] = placed{e, m.rank, m.when}
	}
	slices.SortStableFunc(at, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), -cmp.Compare(a.when, b.when), byRef(a.Lead, b.Lead))
	})
	for i := range at {
		entries[i] = at[i].Entry
	}
}

func rankOf(r *fhir.Resource) int {
	switch {
	case r.Type() == "AllergyIntolerance" && r.Text("criticality") == "high":
		return 0
	case r.Text("status") == "entered-in-error" || r.Text("verificationStatus.coding.code") == "entered-in-error":
		return 3
	case r.Text("clinicalStatus.coding.code") == "resolved" || r.Text("clinicalStatus.coding.code") == "inactive" || currentRank(r):
		return 2
	}
	return 1
}

func currentRank(r *fhir.Resource) bool {
	return strings.HasPrefix(r.Type(), "Medication") && !currentMedicine(r)
}

func sortable(date string) string {
	span, err := fhir.ParseDate(date)
	if err != nil {
		return ""
	}
	return span.Start.UTC().Format("2006-01-02T15:04:05.000")
}
