// Package connector is the socket between the core and a source: what a connector hands in (Delivery through the Door),
// what it can be asked (Asker), and how what came through is stamped as that source's.
//
// Connectors live one folder a kind below this one. They speak their protocol, know nothing of stores, people's rights or
// each other, and give R4 resources under the source's *own* ids: ids and references become this server's only in Stamp, which
// the core calls, so that no source can claim to be another. connectortest holds every kind to these words.
package connector

import (
	"context"
	"time"

	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
)

// Own is the source id of what this node's own people decide, which comes in by the one door like anything else. No system of a region file may
// have it.
const Own = "tombolo"

// A Delivery is one thing that arrived from a source and concerns at most one patient.
type Delivery struct {
	Source string // id of the system in the region file

	// ID is the sender's own name for this delivery: MSH-3^MSH-4^MSH-10, a file name and row, a Bundle's identifier. With
	// Source it is the once-only key. Empty: the content's hash is the key.
	ID string
	// Unique: the sender's protocol gives no two deliveries one ID, so that another content under it is a fault of the sender's, taken and told of.
	// (HL7 v2 MSH-10; not the rows of a file that comes every night.)
	Unique bool

	Received    time.Time
	ContentType string // media type of Raw
	Raw         []byte // exactly what arrived, kept for as long as what was made of it

	// Content is R4, ids and references as the source has them ("Patient/12345", "Practitioner/C123").
	// One resource of type Patient at the most is the delivery's patient; others of its patient compartment refer to it.
	// A merge is told by a second Patient with link.type replaced-by.
	Content []*fhir.Resource
	// Partial names resource types of which Content says only what it says: an element that is left out stays as it is here. Of other
	// types Content is the whole. (HL7 v2.4 §2.10: an empty field is unchanged.)
	Partial []string
	// Order sorts a source's deliveries as the source meant them, whatever order they arrive in: an event's time in UTC, or a sequence
	// number, as text that compares. Of two deliveries that tell of the same element of a Partial resource, or of the same other resource, the greater
	// Order is right, but that a result never becomes less final. "" means: as they arrive.
	Order string
	// Cleared names elements of Partial resources that the source has emptied, which is not the same as leaving them out: "telecom",
	// "period.end". (HL7 v2.4 §2.10: `""`.)
	Cleared map[fhir.Ref][]string
	// Assumed names elements of Partial resources that Content gives for want of better: they fill a gap and replace nothing that was said.
	Assumed map[fhir.Ref][]string
	// Renamed says, by the source's own ids, which Encounter has another id now. What was said of it or under it, and what is still said under its old
	// id, is of the new one. It takes effect where there is an Order.
	Renamed map[fhir.Ref]fhir.Ref
	// Delete names resources, by the source's own ids, that the source has taken back.
	Delete []fhir.Ref
	// Units are the organisational units that made Content, where nothing in it says so: codes of dataset.SystemUnit. NamesUnits: the protocol's messages
	// name them, so that none in Units means that this one left them out. (HL7 v2 PV1-3, MSH-4.)
	Units      []string
	NamesUnits bool
	// Patient is the source's own id of the patient; "" if the delivery is nobody's (an organisation list).
	Patient string

	Map    string        // name and version of the mapping that made Content, "hl7v2-adt/1"
	Issues []*fhir.Issue // what could not be taken from Raw, each with its place; kept with the delivery and listed

	// Rejected is set when nothing could be made of Raw. The door keeps Raw in quarantine with the reason, and Content is ignored.
	Rejected *fhir.Issue

	// Reply is what the connector will answer if the delivery is accepted (an HL7 ACK). It is stored with the delivery, so
	// that a repeat gets the same answer.
	Reply []byte
}

// A Receipt says what became of a Delivery.
type Receipt struct {
	Seq       events.Seq // durable up to and including here
	Duplicate bool       // the same delivery was accepted before; nothing was done again
	Reused    bool       // the same ID came before with other content; accepted as new and flagged
	Reply     []byte     // the stored reply: of the first acceptance where Duplicate
}

// A Door is the one way in. Accept returns nil only after the delivery is durable and can be found (or, if Rejected, is
// durable in quarantine). An error of type fhir.Transient or fhir.NoStore means: nothing is promised, do not
// acknowledge, the sender shall send again. Any other error is the content's fault, and Raw has been kept in quarantine.
// Accept may be called with the same delivery any number of times, and from many goroutines.
type Door interface {
	Accept(ctx context.Context, d Delivery) (Receipt, error)
}

// A Runner is a connector that receives by itself: it listens, polls or watches until ctx ends.
type Runner interface {
	Run(ctx context.Context, door Door) error
}

// A Sender is a connector that tells a system what has changed here: r is a Patient, or a Bundle of one Patient and what is told of them. Send returns
// nil once the receiver has said that it has all of it. An error of type fhir.Transient means that nothing is known of its fate: send the same
// again, and the receiver can know it by its id. Any other error is the content's or the receiver's refusal of it: sending it again will not help, and
// whoever owns it must look. Send may be called from many goroutines; it sends in the order in which it is called.
type Sender interface {
	Send(ctx context.Context, r *fhir.Resource) error
}

// An Asker is a source that can be asked live for what it holds about one person. Ask obeys ctx's deadline. A source's
// failure is an error with a fhir issue type (Timeout, Transient, Throttled, Structure, NotFound …); what it gave before it failed
// may come with it as a non-nil Answer. "I do not know this patient" is NotFound.
type Asker interface {
	Ask(ctx context.Context, q Question) (*Answer, error)
}

// A Question asks one source about one person.
type Question struct {
	Identifiers []fhir.Identifier // how the person may be known there, national numbers first
	Patient     string            // the source's own patient id, if a pointer told us; may be empty
	// About is a Patient that describes them, for an index that is asked who they are there; nil for all others, and where they may not be described.
	About     *fhir.Resource
	Wanted    []string          // of an index: the systems of the identifiers that are wanted; none: any
	Headings  []dataset.Heading // what may be asked; a source is never asked for more
	Requester Requester
}

// A Requester is who is really asking, for sources that want it in their audit (GP Connect's JWT claims, IUA).
type Requester struct {
	UserID, UserName         string // local id; display name
	SDSUserID, SDSRoleID     string // "UNK" where there is none
	Role, RoleName           string // by its code with us; in words
	OrganisationODS, OrgName string
	Activities               []string // national RBAC activities to which they are held; nil: their sign-in says nothing of activities
	Purpose                  string   // v3-PurposeOfUse code, e.g. TREAT
	TraceID                  string   // UUID of this request, for both sides' logs
	Via                      []string // the nodes that the question has passed, this one last
}

// An Answer is what a source said.
type Answer struct {
	// Patient is the demographics the source holds, to be checked against the person asked for. A source whose protocol
	// returns none leaves it nil, and the core then trusts nothing else about identity either.
	Patient *fhir.Resource
	Content []*fhir.Resource // R4, the source's own ids; without Patient
	// States has an entry for each heading asked that the source answered about: Present, NoneRecorded, NotShared. A
	// heading that is missing here is NotKnown.
	States map[dataset.Heading]dataset.State
	Issues []*fhir.Issue // warnings to pass on: withheld items, data in transit, parts that could not be mapped
	Map    string        // name and version of the mapping
	Bytes  int64         // size of what came over the wire
	// Origins says of content that the source itself had from elsewhere where it was first: ODS code and id there. A neighbour knows; others leave it nil.
	Origins map[fhir.Ref]Origin
}

// An Origin is what makes a resource the same wherever it comes by: the organisation that holds it, and its id there.
type Origin struct{ Organisation, ID string }
