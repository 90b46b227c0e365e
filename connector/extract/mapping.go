package extract

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A Mapping says what the files of one kind of system mean. It is made by Parse, never changes, and may be used by many goroutines.
type Mapping struct {
	Name  string // name and version, "community/1": what Delivery.Map says
	Full  bool   // each file holds everything, not only what changed. Rows that are missing are not taken to be deletions.
	files []*file
}

// A file of the mapping: how to read it and what its rows make.
type file struct {
	glob      string // as written, with the folder below the drop folder
	encoding  Encoding
	delimiter byte // 0: find out
	columns   []column
	ignore    []string
	key       []*expr
	id        *expr    // the source's own id of the patient
	patient   *maker   // nil: the file only refers to patients
	told      []string // what patient tells, for comparing files
	removed   *expr
	make      []*maker
	at        place
}

type column struct {
	name     string
	required bool
}

// A maker makes one resource of a row.
type maker struct {
	typ   string
	id    *expr // nil: the file's key
	when  *expr
	root  *node
	file  *expr // names a document
	types []string
	at    place
}

//go:embed mappings/*.yaml
var builtin embed.FS

// Load reads the mapping that a region file names: a path, relative to dir, or "builtin:" and the name of one that comes with this
// program (builtin:community, builtin:council).
func Load(name, dir string) (*Mapping, error) {
	if name, ok := strings.CutPrefix(name, "builtin:"); ok {
		data, err := builtin.ReadFile("mappings/" + name + ".yaml")
		if err != nil {
			return nil, fhir.Errorf(fhir.NotFound, "no mapping %q comes with this program: there are %s; or give the path of a mapping file", "builtin:"+name, strings.Join(Builtin(), ", "))
		}
		return Parse(data)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fhir.Errorf(fhir.NotFound, "read mapping: %w", err)
	}
	m, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	return m, nil
}

// Builtin names the mappings that come with this program.
func Builtin() []string {
	entries, _ := builtin.ReadDir("mappings")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Parse reads a mapping file. Its error joins all that is wrong, each a fhir.Issue with line and column as Expression.
func Parse(data []byte) (*Mapping, error) {
	m, issues := check(data)
	if len(issues) > 0 {
		errs := make([]error, len(issues))
		for i, issue := range issues {
			errs[i] = issue
		}
		return nil, errors.Join(errs...)
	}
	return m, nil
}

// Check is everything that is wrong with a mapping file, each with its line and column and how to mend it.
func Check(data []byte) []*fhir.Issue {
	_, issues := check(data)
	return issues
}

// Globs are the names of the files that the mapping reads, as written in it.
func (m *Mapping) Globs() []string {
	var out []string
	for _, f := range m.files {
		out = append(out, f.glob)
	}
	return out
}

// Matches reports whether the mapping reads a file of this name; only its last part counts.
func (m *Mapping) Matches(name string) bool { return m.fileFor(name) != nil }

func (m *Mapping) fileFor(name string) *file {
	name = strings.ToLower(path.Base(filepath.ToSlash(name)))
	for _, f := range m.files {
		if ok, _ := path.Match(strings.ToLower(path.Base(f.glob)), name); ok {
			return f
		}
	}
	return nil
}

// A builder turns the YAML into a Mapping and keeps account of all that is wrong.
type builder struct {
	issues []*fhir.Issue
	tables map[string]*table
	y      *yamlMapping
}

func (b *builder) wrong(at place, format string, args ...any) {
	if len(b.issues) < 100 {
		b.issues = append(b.issues, fhir.Errorf(fhir.Invalid, format, args...).At(at.String()))
	}
}

var mappingName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,40}/[0-9]{1,6}$`)

func check(data []byte) (*Mapping, []*fhir.Issue) {
	y, issue := readYAML(data)
	if issue != nil {
		return nil, []*fhir.Issue{issue}
	}
	b := &builder{y: y, tables: map[string]*table{}}
	m := &Mapping{Name: y.Mapping.s, Full: y.Mode.s == "full"}
	if !mappingName.MatchString(m.Name) {
		b.wrong(y.Mapping.at.orTop(), "mapping: give a name and a version number, such as \"mapping: community/1\"; raise the number when you change what rows mean")
	}
	if s := y.Mode.s; s != "" && s != "full" && s != "delta" {
		b.wrong(y.Mode.at, "mode: full or delta")
	}
	b.readTables()
	for i := range y.Files {
		if f := b.file(&y.Files[i]); f != nil {
			m.files = append(m.files, f)
		}
	}
	if len(y.Files) == 0 {
		b.wrong(place{1, 1}, "files: name at least one file")
	}
	b.across(m)
	for _, e := range y.Tables.list {
		if t := b.tables[e.key.s]; t != nil && !t.used && len(b.issues) == 0 {
			b.wrong(e.key.at, "table %s is used nowhere", e.key.s)
		}
	}
	if len(b.issues) > 0 {
		return nil, b.issues
	}
	return m, nil
}

func (p place) orTop() place {
	if p.line == 0 {
		return place{1, 1}
	}
	return p
}

func (b *builder) readTables() {
	if b.y.Tables.bad {
		b.wrong(b.y.Tables.at, "tables: write a name and below it code: meaning, one a line")
	}
	for _, e := range b.y.Tables.list {
		if e.inner == nil {
			b.wrong(e.value.at, "table %s: write code: meaning, one a line", e.key.s)
			continue
		}
		t := &table{entries: map[string]string{}}
		for _, c := range e.inner.list {
			key := strings.ToLower(strings.TrimSpace(c.key.s))
			switch {
			case c.value.bad || c.value.kind == absent && c.value.s == "":
				b.wrong(c.key.at, "table %s: each code needs one meaning", e.key.s)
			case key == "*":
				t.any, t.other = true, c.value.s
			default:
				if _, twice := t.entries[key]; twice {
					b.wrong(c.key.at, "table %s: the code stands there twice (capitals do not count)", e.key.s)
				}
				t.entries[key] = c.value.s
			}
		}
		b.tables[e.key.s] = t
	}
}

// across checks what only shows when all files are seen together.
func (b *builder) across(m *Mapping) {
	globs := map[string]bool{}
	keyed := map[string]*file{} // types whose id is simply the row's key
	var described *file
	for _, f := range m.files {
		base := strings.ToLower(path.Base(f.glob))
		if globs[base] {
			b.wrong(f.at, "two files are named %s", path.Base(f.glob))
		}
		globs[base] = true
		if f.patient != nil {
			if described != nil && !slices.Equal(described.told, f.told) {
				b.wrong(f.at, "%s and %s describe the patient differently, so the poorer would overwrite the richer: give both the same patient block, or this one only id", described.glob, f.glob)
			}
			described = f
		}
		for _, mk := range f.make {
			if mk.id != nil {
				continue
			}
			if other := keyed[mk.typ]; other != nil && other != f {
				b.wrong(mk.at, "%s and %s both make %s with the row's key as id, so one could overwrite the other: give this one an id, such as id: concat('%s-', …)",
					other.glob, f.glob, mk.typ, strings.ToLower(mk.typ))
			}
			keyed[mk.typ] = f
		}
	}
}

func (b *builder) file(y *yamlFile) *file {
	f := &file{glob: y.Name.s, at: y.Name.at.orTop(), encoding: Auto}
	if f.glob == "" || y.Name.bad {
		b.wrong(f.at, "name: each file needs a name, such as contacts*.csv")
		return nil
	}
	if _, err := path.Match(f.glob, ""); err != nil || !filepath.IsLocal(f.glob) || strings.Contains(f.glob, `\`) || strings.Count(f.glob, "/") > 1 || strings.Contains(path.Dir(f.glob), "*") {
		b.wrong(f.at, "name: %q is not a file name pattern; write contacts*.csv, or documents/manifest*.csv for a folder in the drop folder", f.glob)
	}
	b.reading(y, f)
	k := &compiler{tables: b.tables}
	for _, c := range y.Columns.Required {
		k.declare(c.s, true)
	}
	for _, c := range y.Columns.Optional {
		k.declare(c.s, false)
	}
	k.strict = len(y.Columns.Required) > 0
	for _, c := range y.Columns.Ignore {
		f.ignore = append(f.ignore, c.s)
	}
	if len(y.Key) == 0 {
		b.wrong(f.at, "%s: key: name the column (or columns) that tell one row from all others", f.glob)
	}
	for _, c := range y.Key {
		if e := b.expr(k, c, "key"); e != nil {
			f.key = append(f.key, e)
		}
	}
	b.patient(k, y, f)
	if y.Removed.s != "" {
		f.removed = b.expr(k, y.Removed, "removed")
	}
	for i := range y.Make {
		if mk := b.maker(k, &y.Make[i]); mk != nil {
			f.make = append(f.make, mk)
		}
	}
	if len(f.make) == 0 && f.patient == nil && len(b.issues) == 0 {
		b.wrong(f.at, "%s makes nothing: give it a patient block or a make list", f.glob)
	}
	f.columns = k.declared
	return f
}

func (b *builder) reading(y *yamlFile, f *file) {
	enc, del := y.Encoding, y.Delimiter
	if enc.s == "" {
		enc = b.y.Encoding
	}
	if del.s == "" {
		del = b.y.Delimiter
	}
	switch e := Encoding(strings.ToLower(enc.s)); e {
	case "", Auto:
	case UTF8, UTF16, Windows1252:
		f.encoding = e
	default:
		b.wrong(enc.at, "encoding: auto, utf-8, utf-16 or windows-1252")
	}
	switch del.s {
	case "", "auto":
	case ",", ";", "|", "\t":
		f.delimiter = del.s[0]
	case "comma", "semicolon", "bar", "tab":
		f.delimiter = map[string]byte{"comma": ',', "semicolon": ';', "bar": '|', "tab": '\t'}[del.s]
	default:
		b.wrong(del.at, "delimiter: auto, comma, semicolon, tab or bar")
	}
}

// expr compiles an expression; a failure is told at its place.
func (b *builder) expr(k *compiler, s scalar, what string) *expr {
	if s.bad || s.s == "" {
		b.wrong(s.at.orTop(), "%s: one expression is wanted, such as a column's name", what)
		return nil
	}
	e, err := k.compile(s.s, s.at)
	if err != nil {
		b.wrong(s.at, "%s: %s", what, err)
		return nil
	}
	return e
}

func (b *builder) maker(k *compiler, y *yamlMake) *maker {
	mk := &maker{typ: y.Type.s, at: y.Type.at.orTop(), root: new(node)}
	if subjects[mk.typ] == "" {
		b.wrong(mk.at, "type: %q is not a type that a row about a patient can make; there are %s%s", mk.typ, strings.Join(keys(subjects), ", "), nearest(mk.typ, keys(subjects)))
		return nil
	}
	if y.ID.s != "" {
		mk.id = b.expr(k, y.ID, "id")
	}
	if y.When.s != "" {
		mk.when = b.expr(k, y.When, "when")
	}
	b.automatic(k, mk, y)
	for _, e := range y.Set.list {
		if e.inner != nil || e.value.bad || e.value.kind == absent {
			b.wrong(e.key.at, "set: %s needs one value; for what lies deeper write a path, such as %[1]s.text", e.key.s)
			continue
		}
		if e.value.kind == number && !isNumber(e.value.s) {
			b.wrong(e.value.at, "set: %s: put \"quotes\" around what is not a plain number", e.key.s)
			continue
		}
		b.insert(mk, e.key, nil, value{kind: e.value.kind, s: e.value.s}.appendJSON(nil))
	}
	for _, e := range y.Fields.list {
		if e.inner != nil {
			b.wrong(e.key.at, "fields: %s needs one expression; for what lies deeper write a path, such as %[1]s.text", e.key.s)
			continue
		}
		if x := b.expr(k, e.value, e.key.s); x != nil {
			b.insert(mk, e.key, x, nil)
		}
	}
	if y.Set.bad || y.Fields.bad {
		b.wrong(mk.at, "set and fields: write path: value, one a line")
	}
	mk.root.refresh()
	return mk
}

func (b *builder) insert(mk *maker, key scalar, leaf *expr, literal []byte) {
	path := strings.TrimSpace(key.s)
	first, _, _ := strings.Cut(path, ".")
	first, _, _ = strings.Cut(first, "[")
	subject, _, _ := strings.Cut(subjects[mk.typ], ".")
	switch {
	case first == "id" || first == "resourceType":
		b.wrong(key.at, "%s is not a field: say id: or type: beside fields", first)
		return
	case first == subject && mk.typ != "Appointment":
		b.wrong(key.at, "%s is the row's patient and is filled in by itself", first)
		return
	case strings.HasPrefix(path, "meta.tag"):
		b.wrong(key.at, "meta.tag is the heading: say heading: beside fields")
		return
	}
	if err := mk.root.insert(path, leaf, literal); err != nil {
		b.wrong(key.at, "%s", err)
	}
}

// subjects is, for each type that a row can make, the element in which its patient stands. FHIR R4 compartmentdefinition-patient.html
var subjects = map[string]string{
	"AdverseEvent": "subject", "AllergyIntolerance": "patient", "Appointment": "participant[0].actor", "CarePlan": "subject", "CareTeam": "subject",
	"ClinicalImpression": "subject", "Communication": "subject", "Condition": "subject", "Consent": "patient", "DetectedIssue": "patient", "Device": "patient",
	"DeviceRequest": "subject", "DeviceUseStatement": "subject", "DiagnosticReport": "subject", "DocumentReference": "subject", "Encounter": "subject",
	"EpisodeOfCare": "patient", "FamilyMemberHistory": "patient", "Flag": "subject", "Goal": "subject", "Immunization": "patient", "List": "subject",
	"MedicationAdministration": "subject", "MedicationDispense": "subject", "MedicationRequest": "subject", "MedicationStatement": "subject",
	"NutritionOrder": "patient", "Observation": "subject", "Procedure": "subject", "QuestionnaireResponse": "subject", "RelatedPerson": "patient",
	"RiskAssessment": "subject", "ServiceRequest": "subject", "Specimen": "subject", "Task": "for",
}

// automatic puts in what every row has: the patient, the heading, and what a document brings with it.
func (b *builder) automatic(k *compiler, mk *maker, y *yamlMake) {
	must := func(err error) {
		if err != nil {
			b.wrong(mk.at, "%s", err)
		}
	}
	must(mk.root.insert(subjects[mk.typ]+".reference", fromRow(func(c *cells) string { return c.patient }), nil))
	if mk.typ == "Appointment" { // FHIR R4 appointment.html: participant.status is required
		must(mk.root.insert("participant[0].status", nil, []byte(`"accepted"`)))
	}
	switch h := dataset.Heading(y.Heading.s); {
	case h == "":
	case h.Valid():
		must(mk.root.insert("meta.tag[0]", k.constant(tagOf(h)), nil))
	case isWord(y.Heading.s) && k.find(y.Heading.s) < 0:
		b.wrong(y.Heading.at, "heading: %q is not a heading of the data set%s", y.Heading.s, nearest(y.Heading.s, headingNames()))
	default:
		if e := b.expr(k, y.Heading, "heading: neither a heading of the data set nor an expression"); e != nil {
			must(mk.root.insert("meta.tag[0]", k.make(headingTag(e), e), nil))
		}
	}
	if y.File.s == "" {
		if len(y.Types) > 0 {
			b.wrong(y.Types[0].at, "types: says which media types file: may have, and there is no file:")
		}
		return
	}
	if mk.typ != "DocumentReference" {
		b.wrong(y.File.at, "file: only a DocumentReference can bring a file")
	}
	mk.file = b.expr(k, y.File, "file")
	for _, t := range y.Types {
		if !slices.Contains(mediaTypes, t.s) {
			b.wrong(t.at, "types: %q is not a media type that is taken in; there are %s", t.s, strings.Join(mediaTypes, ", "))
		}
		mk.types = append(mk.types, t.s)
	}
	if len(mk.types) == 0 {
		mk.types = mediaTypes
	}
	const attachment = "content[0].attachment."
	must(mk.root.insert(attachment+"contentType", fromRow(func(c *cells) string { return c.doc.contentType }), nil))
	must(mk.root.insert(attachment+"url", fromRow(func(c *cells) string { return c.doc.url }), nil))
	must(mk.root.insert(attachment+"hash", fromRow(func(c *cells) string { return c.doc.hash }), nil))
	must(mk.root.insert(attachment+"size", &expr{eval: func(c *cells) (value, error) {
		return value{kind: number, s: fmt.Sprint(c.doc.size)}, nil
	}}, nil))
}

func fromRow(get func(*cells) string) *expr {
	return &expr{eval: func(c *cells) (value, error) { return textOf(get(c)), nil }}
}

var word = regexp.MustCompile(`^[A-Za-z][A-Za-z -]*$`)

func isWord(s string) bool { return word.MatchString(s) }

func headingNames() []string {
	var out []string
	for _, i := range dataset.All {
		out = append(out, string(i.Heading))
	}
	return out
}

func tagOf(h dataset.Heading) value {
	return value{kind: element, s: string(fhir.JSON(dataset.Tag(h)))}
}

func headingTag(e *expr) func(*cells) (value, error) {
	return func(c *cells) (value, error) {
		v, err := e.eval(c)
		if err != nil || v.kind == absent {
			return nothing, err
		}
		h := dataset.Heading(v.str())
		if !h.Valid() {
			return nothing, &columnError{e.column, "the heading expression gives something that is not a heading of the data set"}
		}
		return tagOf(h), nil
	}
}
