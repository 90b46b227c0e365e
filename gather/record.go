package gather

import (
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// A Record is one person's record as joined for one session: what every face renders.
type Record struct {
	Person   Person
	Lanes    []Lane    // one per source considered, in region-file order
	Sections []Section // one per heading, in dataset order; all headings, also those with nothing
	At       time.Time // when the gathering ended
	Took     time.Duration
	// Supporting are what entries refer to and is nobody's record by itself: products, specimens, practitioners, organisations.
	Supporting map[fhir.Ref]*fhir.Resource
	Notice     string   // the constant sentence that some information may be withheld
	Plan       []Choice // how each heading of each source was come by; nil unless it was asked for by somebody who may know
	BrokeGlass bool     // opened against an objection, in an emergency
	// GlassUntil is until when it stays so; zero for a record that is shown again as it was.
	GlassUntil time.Time
}

// A Person is who the record is about, as the identity index knows them.
type Person struct {
	ID           string // opaque; the id in /fhir/Patient/{id}
	NHSNumber    fhir.NHSNumber
	Identifiers  []fhir.Identifier
	Name         fhir.HumanName
	BirthDate    string
	Gender       string
	Address      *fhir.Address // nil when there is none or the location is restricted
	Phone        string
	Deceased     string // date, "true", or ""
	Practice     string // ODS code of the registered GP practice
	PracticeName string
	Restricted   bool     // location withheld (PDS meta.security R)
	Withheld     bool     // the application that asks may not have who this is (its scopes)
	Merged       []string // identifiers that were superseded by this one, for the banner notice
}

// A LaneState says how a source's part of the gathering stands.
type LaneState string

// The lane states.
const (
	Asking   LaneState = "asking"    // no answer yet
	Answered LaneState = "answered"  // in full
	Partly   LaneState = "partly"    // some of it; Issue says what is missing
	Failed   LaneState = "failed"    // no answer; Issue says why
	Refused  LaneState = "refused"   // not asked: not shared with this user
	NotHere  LaneState = "not-here"  // asked, and the source does not know the person
	Earlier  LaneState = "earlier"   // did not answer; shown is what it answered at AsOf. Issue says why
	NotAsked LaneState = "not-asked" // nothing says that it holds anything about the person; Issue says why it was not asked
)

// Silent reports whether the lane has nothing to do with the person, as far as is known.
func (l Lane) Silent() bool { return l.State == NotHere || l.State == NotAsked }

// A Lane is one source's part in a record.
type Lane struct {
	Source       string // system id, or neighbour id
	Name         string // "Hilltop Surgery"
	Organisation string // ODS code
	Kind         string // region.Kind, "neighbour" or "locator"
	Way          string // stored, live, neighbour, locator
	State        LaneState
	Took         time.Duration
	AsOf         time.Time     // for stored data: when the newest of what is shown came; in the state Earlier: when the oldest of it was answered
	Count        int           // entries given
	Map          string        // name and version of the mapping of a live answer
	Index        string        // of a neighbour whose index was asked who this is there: by what
	Issue        *fhir.Issue   // nil when all is well
	Warnings     []*fhir.Issue // withheld items, data in transit, parts not mapped
	Headings     map[dataset.Heading]dataset.State
	Part         map[dataset.Heading]bool   // headings under which there may be more than it gave, although it gave something
	Reaches      map[dataset.Heading]string `json:",omitempty"` // of headings of which it has none: year and month to which it was found to go back, where that is worth saying
	InPart       map[dataset.Heading]bool   `json:",omitempty"` // headings of which not every unit's entries are released to the user
	Stage        string                     `json:",omitempty"` // how far the release of what a tester sees here has come; "" if it is released to whoever asks
}

// A Section is one heading of the joined record.
type Section struct {
	Heading dataset.Heading
	Title   string
	State   dataset.State // over all sources: present if any has entries; none-recorded only if every source that gives it said so
	Entries []Entry       // newest first
	// Unknown names the sources (Lane.Name) whose part of this heading is not known, NotShared those that do not share it.
	Unknown, NotShared []string
	// Reach says of sources that have none how far back they were found to go, where that is worth saying: "Hilltop Surgery reaches back to March 2025".
	Reach []string
}

// An Entry is one thing, said once, by one source or several.
type Entry struct {
	Lead     *fhir.Resource // the version shown
	Members  []Member       // every source's version, Lead's own first
	Conflict string         // what the sources disagree about, in words; "" if nothing
	Related  []Entry        // issues under their repeat prescription; results under their report
}

// A Member is one source's version of an entry.
type Member struct {
	Resource *fhir.Resource
	Source   string // Lane.Source
	Name     string // Lane.Name
	Received time.Time
	origin   connector.Origin // where it was first, as far as that is known
	marks    *marks           // what Reconcile goes by, worked out while other sources are still awaited; nil: not yet
}
