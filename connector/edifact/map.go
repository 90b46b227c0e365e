package edifact

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

const mapName = "edifact-medrpt/1"

// Systems of codes that the messages use by number.
const (
	systemRead2        = "http://read.info/readv2"
	systemDeviation    = "https://tombolo.dev/CodeSystem/edifact-deviating-result"
	v3Interpretation   = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
	categorySystem     = "http://terminology.hl7.org/CodeSystem/observation-category"
	serviceSection     = "http://terminology.hl7.org/CodeSystem/v2-0074"
	extensionFasting   = "http://terminology.hl7.org/CodeSystem/v2-0916"
	systemLocalReports = "urn:id:edifact-report"
)

// Options of a source of EDIFACT files.
type Options struct {
	Source string
	Now    func() time.Time
}

// Deliveries yields one delivery for each message of a file, in order. One that cannot be read or mapped is Rejected, with the reason. The error
// says that the file as a whole is not EDIFACT.
func Deliveries(r io.Reader, o Options) iter.Seq2[connector.Delivery, error] {
	if o.Now == nil {
		o.Now = time.Now
	}
	return func(yield func(connector.Delivery, error) bool) {
		data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
		if err != nil {
			yield(connector.Delivery{}, err)
			return
		}
		all, err := Parse(data)
		if err != nil {
			yield(connector.Delivery{Source: o.Source, ContentType: "application/edifact", Raw: data[:min(len(data), maxSize)], Received: o.Now(), Rejected: fhir.IssueOf(err)}, err)
			return
		}
		for _, in := range all {
			for i := range in.Messages {
				d := Map(&in, &in.Messages[i])
				d.Source, d.Received = o.Source, o.Now()
				if !yield(d, nil) {
					return
				}
			}
		}
	}
}

// Map makes a delivery of one message. It is pure.
func Map(in *Interchange, m *Message) connector.Delivery {
	d := connector.Delivery{ContentType: "application/edifact", Raw: m.Raw, Map: mapName}
	if in.Reference != "" || m.Reference != "" {
		d.ID = in.Sender + "^" + in.Reference + "^" + m.Reference
	}
	if in.Reference == "" { // a bare message counts from 1 in every file: its content tells it
		d.ID = ""
	}
	if m.Fault != nil {
		d.Rejected = m.Fault
		return d
	}
	switch m.Type + " " + m.Version {
	case "MEDRPT NHS002", "MEDRPT NHS003", "MEDRPT NHS004", "NHSRSR NHS002":
	default:
		d.Rejected = fhir.Errorf(fhir.NotSupported, "this program takes the reports MEDRPT NHS002, NHS003 and NHS004, and NHSRSR NHS002").At("UNH")
		return d
	}
	x := &mapper{m: m, d: &d}
	if issue := x.message(); issue != nil {
		d.Rejected, d.Content, d.Patient = issue, nil, ""
	}
	return d
}

// A mapper makes one delivery.
type mapper struct {
	m         *Message
	d         *connector.Delivery
	radiology bool

	number, issued, status   string
	requester, performer     []fhir.Reference
	interpreter              []fhir.Reference
	request                  []string // clinical information
	specimens                []*specimen
	tests                    []*test
	asked                    fhir.CodeableConcept // radiology: what was examined
	told                     []string             // radiology: the report
	name                     fhir.HumanName
	numbers                  []fhir.Identifier
	address                  fhir.Address
	born, gender, localID    string
	dept, organisation, base string
}

type specimen struct {
	seq    string
	fields fhir.M
	number string
	notes  []string
}

// A test is one INV with what follows it.
type test struct {
	seq, of, specimen string
	code              fhir.CodeableConcept
	fields            fhir.M
	text, notes       []string
	ranges            []fhir.M
	unit              string
	place             string
	made              string
}

func (x *mapper) note(t fhir.IssueType, place, text string) {
	if len(x.d.Issues) < 100 {
		x.d.Issues = append(x.d.Issues, &fhir.Issue{Type: t, Severity: fhir.Warning, Expression: place, Text: text})
	}
}

// message reads the segments in order. A group (S01 parties, S02 report, S06 S07 patient, S10 request, S16 specimens and tests, S20 ranges) gives the
// segments after it their sense.
func (x *mapper) message() *fhir.Issue {
	x.radiology = x.m.Type == "NHSRSR"
	group := ""
	var party Segment
	for _, s := range x.m.Segments {
		switch s.Name {
		case "S01", "S02", "S05", "S06", "S07", "S10", "S11", "S16", "S18", "S20":
			group = s.Name
		case "NAD":
			party = s
		case "SPR":
			x.party(party, s.Get(1, 1))
		case "PNA", "ADR", "PDI":
			x.patient(s)
		case "DTM":
			x.time(s)
		case "RFF":
			x.reference(s)
		case "STS":
			x.state(s)
		case "INV":
			x.investigation(s)
		case "RSL":
			x.result(s)
		case "RND":
			x.limits(s)
		case "SEQ":
			x.sequence(s, group)
		case "SPC", "QTY":
			x.sample(s)
		case "FTX":
			x.words(s)
		case "UNH", "BGM", "GIS", "CIN", "REL", "UNT":
		default:
			x.note(fhir.Informational, s.Place(), "a segment that no map reads, kept in the raw message")
		}
	}
	return x.build()
}

// party is who asked (PO), who did the work (SLA a laboratory, SRA a radiology department), who read the pictures (RRP). 900 is a GP's code, 901 a
// practice's, 903 an organisation's.
func (x *mapper) party(nad Segment, kind string) {
	name := strings.Join(nonEmpty(nad.Components(4)), "")
	if name == "" {
		name = strings.Join(nonEmpty(nad.Components(3)), "")
	}
	ref := fhir.Reference{Type: "Organization", Display: name}
	if kind == "PRO" {
		ref.Type = "Practitioner"
	}
	if code := nad.Get(2, 1); code != "" {
		switch nad.Get(2, 2) {
		case "900":
			ref.Identifier = &fhir.Identifier{System: fhir.SystemGMP, Value: code}
		case "902":
			ref.Identifier = &fhir.Identifier{System: fhir.SystemGMC, Value: strings.TrimPrefix(code, "C")}
		case "901", "903":
			ref.Identifier = &fhir.Identifier{System: fhir.SystemODS, Value: code}
		}
	}
	if ref.Display == "" && ref.Identifier == nil || ref.Display == "UNKNOWN" {
		return
	}
	switch nad.Get(1, 1) {
	case "PO":
		x.requester = append(x.requester, ref)
	case "SLA", "SRA":
		if kind == "DPT" {
			x.dept = ref.Display
		} else if kind == "ORG" {
			x.organisation = ref.Display
		}
		x.performer = append(x.performer, ref)
	case "RRP":
		x.interpreter = append(x.interpreter, ref)
	}
}

func nonEmpty(in []string) []string {
	return slices.DeleteFunc(slices.Clone(in), func(s string) bool { return s == "" })
}

// patient reads PNA (number and name), ADR and PDI (sex). The number is taken for an NHS number if it is one.
func (x *mapper) patient(s Segment) {
	switch s.Name {
	case "PDI":
		x.gender = map[string]string{"1": "male", "2": "female", "9": "other", "0": "unknown"}[s.Get(1, 1)]
	case "ADR":
		parts := nonEmpty(s.Components(2))
		if len(parts) > 0 && parts[0] == "US" { // unstructured
			parts = parts[1:]
		}
		x.address = fhir.Address{Line: parts, PostalCode: s.Get(4, 1)}
	case "PNA":
		if n := s.Get(2, 1); n != "" {
			i := fhir.Identifier{System: fhir.SystemNHSNumber, Value: n}.Canonical()
			if _, err := fhir.ParseNHSNumber(i.Value); err == nil {
				x.numbers = append(x.numbers, i)
			} else {
				x.note(fhir.ValueError, s.Place(), "a national number that fails its check was left out: "+err.Error())
			}
		}
		for e := 3; e <= len(s.elements); e++ {
			v := strings.Join(nonEmpty(s.Components(e)[min(1, len(s.Components(e))):]), " ")
			if v == "" {
				continue
			}
			switch s.Get(e, 1) {
			case "SU":
				x.name.Family = v
			case "FO":
				x.name.Given = append(strings.Fields(v), x.name.Given...)
			case "MI":
				x.name.Given = append(x.name.Given, strings.Fields(v)...)
			case "TI":
				x.name.Prefix = []string{strings.TrimSuffix(v, ".")}
			}
		}
	}
}

// time reads DTM: what it is of, when, and in which form (102 a day, 203 a minute).
func (x *mapper) time(s Segment) {
	t := moment(s.Get(1, 2), s.Get(1, 3))
	if t == "" {
		x.note(fhir.ValueError, s.Place(), "not a date: it should read YYYYMMDD with 102, or YYYYMMDDHHMM with 203")
		return
	}
	switch s.Get(1, 1) {
	case "329":
		x.born = t[:min(len(t), 10)]
	case "ISR":
		x.issued = t
	case "SCO":
		x.collection("collectedDateTime", t)
	case "SRI":
		if sp := x.lastSpecimen(); sp != nil {
			sp.fields["receivedTime"] = t
		}
	}
}

func (x *mapper) lastSpecimen() *specimen {
	if len(x.specimens) == 0 {
		return nil
	}
	return x.specimens[len(x.specimens)-1]
}

func (x *mapper) collection(name string, v any) {
	if sp := x.lastSpecimen(); sp != nil {
		c, _ := sp.fields["collection"].(fhir.M)
		if c == nil {
			c = fhir.M{}
			sp.fields["collection"] = c
		}
		c[name] = v
	}
}

// forms are the date and time formats of UN/EDIFACT code list 2379 that are used, and how FHIR writes what they say.
var forms = map[string][2]string{
	"602": {"2006", "2006"}, "610": {"200601", "2006-01"}, "102": {"20060102", "2006-01-02"},
	"203": {"200601021504", "2006-01-02T15:04:05-07:00"}, "204": {"20060102150405", "2006-01-02T15:04:05-07:00"},
}

func moment(s, form string) string {
	f, ok := forms[form]
	if !ok {
		return ""
	}
	t, err := time.ParseInLocation(f[0], s, fhir.London)
	if err != nil || t.Year() < 1800 || t.Year() > 2200 {
		return ""
	}
	return t.Format(f[1])
}

// reference reads RFF: SRI the report's number, STI and RTI the specimen's, ASL the specimen a test was made on, ARL the group it belongs to.
func (x *mapper) reference(s Segment) {
	v := s.Get(1, 2)
	switch s.Get(1, 1) {
	case "SRI":
		x.number = v
	case "SSI", "RPI":
		x.localID = v
	case "STI":
		if sp := x.lastSpecimen(); sp != nil {
			sp.number = v
		}
	case "RTI":
		if sp := x.lastSpecimen(); sp != nil {
			sp.fields["identifier"] = []fhir.Identifier{{Value: v}}
		}
	case "ASL":
		if t := x.lastTest(); t != nil {
			t.specimen = v
		}
	case "ARL":
		if t := x.lastTest(); t != nil {
			t.of = v
		}
	}
}

func (x *mapper) lastTest() *test {
	if len(x.tests) == 0 {
		return nil
	}
	return x.tests[len(x.tests)-1]
}

var states = map[string]string{"UN": "unknown", "PR": "preliminary", "FI": "final", "CO": "corrected", "SU": "amended", "SR": "appended", "CA": "cancelled", "VR": "final"}

func (x *mapper) state(s Segment) {
	state := states[s.Get(2, 1)]
	if state == "" {
		x.note(fhir.CodeInvalid, s.Place(), "the status is not one that these messages have; it is shown as unknown")
		state = "unknown"
	}
	if t := x.lastTest(); t != nil && !x.radiology {
		if state == "appended" { // only reports are
			state = "amended"
		}
		t.fields["status"] = state
	} else {
		x.status = state
	}
}

// coded reads a code with its list (911 Read, 921 SNOMED CT) and words.
func coded(s Segment, e, first int) fhir.CodeableConcept {
	code, list, words := s.Get(e, first), s.Get(e, first+1), strings.Join(nonEmpty(s.Components(e)[min(first+2, len(s.Components(e))):]), " ")
	c := fhir.CodeableConcept{Text: words}
	if code != "" {
		system := map[string]string{"911": systemRead2, "921": fhir.SystemSNOMED}[list]
		c.Coding = []fhir.Coding{{System: system, Code: code, Display: words}}
	}
	return c
}

func (x *mapper) investigation(s Segment) {
	c := coded(s, 2, 1)
	if x.radiology {
		x.asked = c
		return
	}
	x.tests = append(x.tests, &test{code: c, fields: fhir.M{}, place: s.Place()})
}

var comparators = map[string]string{"5": ">=", "6": ">", "7": "<", "8": "<="}

var deviations = map[string][3]string{
	"HI": {v3Interpretation, "H", "High"}, "LO": {v3Interpretation, "L", "Low"}, "PA": {systemDeviation, "PA", "Potentially abnormal"},
	"OR": {systemDeviation, "OR", "Outside reference range"},
}

// result reads RSL: NV a number with comparator and unit, CV a code; and a flag.
func (x *mapper) result(s Segment) {
	t := x.lastTest()
	if t == nil {
		x.note(fhir.Structure, s.Place(), "a result that stands before any test was kept in the raw message only")
		return
	}
	t.unit = s.Get(4, 4)
	switch s.Get(1, 1) {
	case "NV":
		value := s.Get(2, 1)
		if number.MatchString(value) {
			t.fields["valueQuantity"] = fhir.Quantity{Value: json.Number(decimal(value)), Comparator: comparators[s.Get(2, 2)], Unit: t.unit}
		} else if value != "" {
			x.note(fhir.ValueError, s.Place(), "the value is said to be a number and is not; it was kept as words")
			t.fields["valueString"] = strings.TrimSpace(value + " " + t.unit)
		}
	case "CV":
		if c := coded(s, 2, 3); !c.IsZero() {
			t.fields["valueCodeableConcept"] = c
		}
	case "":
	default:
		x.note(fhir.NotSupported, s.Place(), "a kind of result that is not read: it was kept in the raw message only")
	}
	if f, ok := deviations[s.Get(5, 1)]; ok {
		t.fields["interpretation"] = []fhir.CodeableConcept{fhir.Code(f[0], f[1], f[2])}
	}
}

var number = regexp.MustCompile(`^-?[0-9]{1,20}(\.[0-9]{1,20})?$|^-?\.[0-9]{1,20}$`)

// decimal makes JSON of a number without changing its precision: "007.50" is 7.50.
func decimal(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, frac, point := strings.Cut(s, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if point {
		whole += "." + frac
	}
	return sign + whole
}

// limits reads RND: the range of a test.
func (x *mapper) limits(s Segment) {
	t := x.lastTest()
	if t == nil {
		return
	}
	r := fhir.M{}
	unit := s.Get(4, 1)
	if unit == "" {
		unit = t.unit
	}
	for i, name := range [...]string{"low", "high"} {
		if v := s.Get(2+i, 1); number.MatchString(v) {
			r[name] = fhir.Quantity{Value: json.Number(decimal(v)), Unit: unit}
		}
	}
	if len(r) > 0 {
		t.ranges = append(t.ranges, r)
	}
}

// sequence reads SEQ, which numbers a specimen, or after an INV a group of tests.
func (x *mapper) sequence(s Segment, group string) {
	n := s.Get(2, 1)
	if t := x.lastTest(); t != nil {
		t.seq = n
		return
	}
	if group == "S16" {
		x.specimens = append(x.specimens, &specimen{seq: n, fields: fhir.M{}})
	}
}

// sample reads SPC and QTY: what was taken, how much, and whether fasting.
func (x *mapper) sample(s Segment) {
	sp := x.lastSpecimen()
	if sp == nil {
		return
	}
	switch {
	case s.Name == "QTY":
		if v := s.Get(1, 2); number.MatchString(v) {
			x.collection("quantity", fhir.Quantity{Value: json.Number(decimal(v)), Unit: s.Get(2, 4)})
		}
	case s.Get(1, 1) == "TSP":
		sp.fields["type"] = coded(s, 2, 1)
	case s.Get(1, 1) == "FS":
		if s.Get(2, 1) == "F" {
			x.collection("fastingStatusCodeableConcept", fhir.Code(extensionFasting, "F", "Patient was fasting prior to the procedure."))
		}
	}
}

// words reads FTX: CID what the requester said, SPC a comment, RIT a result in words, RPD what a range depends on.
func (x *mapper) words(s Segment) {
	text := strings.Join(nonEmpty(s.Components(4)), " ")
	if text == "" || text == "." {
		return
	}
	t := x.lastTest()
	switch kind := s.Get(1, 1); {
	case kind == "CID":
		x.request = append(x.request, text)
	case x.radiology:
		x.told = append(x.told, text)
	case t == nil:
		if sp := x.lastSpecimen(); sp != nil {
			sp.notes = append(sp.notes, text)
		} else {
			x.told = append(x.told, text)
		}
	case kind == "RIT":
		t.text = append(t.text, text)
	case kind == "RPD" && len(t.ranges) > 0:
		last := t.ranges[len(t.ranges)-1]
		was, _ := last["text"].(string)
		last["text"] = strings.TrimSpace(was + " " + text)
	default:
		t.notes = append(t.notes, text)
	}
}

var idAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func hash(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return idAlphabet.EncodeToString(h[:10])
}

// tagImaging puts radiology under its heading.
func tagImaging() fhir.M { return fhir.M{"tag": []fhir.Coding{dataset.Tag(dataset.Imaging)}} }
