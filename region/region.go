// Package region is the region file: which organisations there are, which systems they run and what each gives and how, what has
// been agreed between them, and which neighbours are joined. One file is run, checked and drawn (design law 11).
package region

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
)

// A Region is one parsed region file.
type Region struct {
	ID            string
	Name          string
	Organisations []Organisation
	Systems       []System
	Agreements    []Agreement
	Neighbours    []Neighbour
	Users         []User
	Identity      Identity
	Audit         Audit
	GPConnect     GPConnect
	Locator       Locator
	Policy        Policy
	Limits        Limits
	Gathering     Gathering
	Probing       Probing
	Definitions   []string // FHIR packages, folders and files of profiles that $validate is to know; relative to the region file
	Directory     Directory

	file   string           // name of the file it was read from
	places map[string]place // where each part stands in it, by path
}

// A Kind of organisation, which decides how it is drawn and whether it is asked as a person's registered practice.
type Kind string

// The kinds of organisation.
const (
	KindGP           Kind = "gp"
	KindAcute        Kind = "acute"
	KindMentalHealth Kind = "mental-health"
	KindCommunity    Kind = "community"
	KindSocialCare   Kind = "social-care"
	KindAmbulance    Kind = "ambulance"
	KindMaternity    Kind = "maternity"
	KindPrison       Kind = "prison"
	KindPharmacy     Kind = "pharmacy"
	KindHospice      Kind = "hospice"
	KindCareHome     Kind = "care-home"
	KindOther        Kind = "other"
)

// An Organisation is a legal body with an ODS code.
type Organisation struct {
	ODS  string
	Name string
	Kind Kind
	// PartOf is the ODS code of the body that it belongs to, as ODS says: a site of a trust, a practice of a network, a network of a board.
	PartOf string
	// SucceededBy is the ODS code of the body that took over what it did; "" while it goes on. Who is registered there is registered with its successor.
	SucceededBy string
}

// Asked reports whether it is a way in which a source is asked.
func (w Way) Asked() bool { return w == Live || w == Both }

// Sends reports whether it is a way in which a source sends.
func (w Way) Sends() bool { return w == Push || w == Both }

// A Way in which a system gives a heading.
type Way string

// The ways.
const (
	Push Way = "push" // it sends, we keep
	Live Way = "live" // we ask when somebody looks
	Both Way = "both" // it sends, and can be asked: what it sent is taken while it was heard lately (Gathering.Fresh), else we ask
)

// A System is one installed product at one organisation: a source.
type System struct {
	ID           string
	Name         string // what people call it; the organisation's name where the file gives none
	Organisation string // ODS code
	Product      string
	Connector    string // hl7v2, fhirapi, gpconnect, extract, document, api, pds, consumer
	Listen       string // address it sends to, host:port
	Address      string // URL at which it is asked
	Drop         string // folder in which its files appear
	Mapping      string // mapping file, relative to the region file
	ASID         string // its accredited system id, for GP Connect
	Gives        map[dataset.Heading]Way
	Deadline     time.Duration // how long it may take to answer; 2 s if not given
	Release      Release
	Labels       []string          // security labels that all it gives bears: R, V, and kinds of sensitivity
	Options      map[string]string // connector-specific settings
	TLS          TLS               // what we show it, and whom we believe to be it, when it is asked
	Limits       Asking            // how it may be asked

	// What it may ask of us, proven by its certificate. Without one it asks nothing.
	Certificate string   // how pki.Names finds it
	Role        string   // in which its users act here
	AsksFor     []string // ODS codes of the organisations besides its own whose users it may speak for
	Issuer      string   // what it calls itself in GP Connect's tokens; "" for anything
}

// Asks reports whether the system may ask who people are (options: {pdq: yes}).
func (s System) Asks() bool {
	switch strings.ToLower(s.Options["pdq"]) {
	case "yes", "on", "true", "1":
		return true
	}
	return false
}

// Notify are the addresses to which the system may have notifications sent, and what is below them (options: {notify: 'https://…'}, several with spaces between).
func (s System) Notify() []string { return strings.Fields(s.Options["notify"]) }

// A TLS is the files for connections that we make. Zero: the machine's authorities are believed, and no certificate is shown.
type TLS struct {
	Certificate, Key string // ours
	CA, CRL          string // of the other end
}

// A GPConnect is the record offered as GP Connect to systems that have a certificate. Zero: it is not offered.
type GPConnect struct {
	Organisation string // ODS code of whoever answers for it; part of its address
	ASID         string // what a request's Ssp-To must be; "" for anything
	Address      string // public base URL of the listener for systems; "" for any. A token's aud is held to it
}

// An Agreement is a dated, machine-readable data sharing agreement.
type Agreement struct {
	ID          string
	Parties     []string // ODS codes
	Purposes    []string // direct-care, emergency …
	AllHeadings bool
	Headings    []dataset.Heading
	Roles       []string  // only users of these roles; none: of any
	Basis       string    // the legal basis, for those who read the agreement; it decides nothing
	From, Until time.Time // valid while From <= t < Until (the file's until names the last day); Until zero: open-ended
}

// A Neighbour is another region's record system.
type Neighbour struct {
	ID      string
	Name    string
	Kind    string // one of NeighbourKinds
	Address string
	Token   string // name of the environment variable or file that holds the credential: never the secret itself
	Options map[string]string
	// What makes it one whose users may ask us: who it says it is, where its public keys are, and the party to our agreements that it is.
	Issuer, Keys, Organisation string
	Certificate                string // by which it is known when its users ask us, how pki.Names finds it; none: its statements are believed without
	Assertion                  Assertion
	LastResort                 bool // it is asked only for what this region's own sources leave open
	OnlyAsks                   bool // it asks us, and is not asked
	TLS                        TLS
	Deadline                   time.Duration // how long it may take to answer; 2 s if not given
	Limits                     Asking
	Gives                      []dataset.Heading // none: all that its kind can give
	Numbers                    []string          // by which it knows people, the best first; none: each that is known
	Index                      Index             // where it can be asked who somebody is there; no Address: nowhere
}

// An Assertion is how a neighbour that is not a Tombolo is told, signed, which user is asking (IHE ITI IUA). As is "" where it is not told.
type Assertion struct {
	As       string // one of AssertionWays
	Audience string // for whom the statement is; the neighbour's address if not given
	Token    string // its token endpoint, for ByExchange
	Scope    string // asked for there
	Header   string // the name of the header, for ByHeader
}

// The ways in which a statement goes: itself as the bearer token; exchanged for an access token; in a header of its own, beside the node's credential.
const (
	ByBearer   = "bearer"
	ByExchange = "exchange"
	ByHeader   = "header"
)

// AssertionWays are all of them.
var AssertionWays = []string{ByBearer, ByExchange, ByHeader}

// An Index is where a neighbour tells who somebody is there: IHE PIXm and PDQm.
type Index struct {
	Address  string        // FHIR base URL
	Asks     []string      // IndexWays; pix alone if none
	Wanted   []string      // systems of the identifiers by which the neighbour is asked then; none: those of its numbers, or whichever there are
	Get      bool          // it takes $ihe-pix by GET alone
	Deadline time.Duration // part of the neighbour's own
	Cache    time.Duration // how long an answer about a person is believed
	Limits   Asking
}

// IndexWays are the ways in which an index is asked: by identifier, by description for a match, by description for who is described exactly so.
var IndexWays = []string{"pix", "match", "search"}

// Usual settings of an index.
const (
	DefaultIndexDeadline  = time.Second
	DefaultIndexCache     = 10 * time.Minute
	DefaultIndexPerSecond = 20
)

// Describes reports whether an index is told what is known of somebody, and not only by which numbers they go.
func (x Index) Describes() bool {
	return slices.Contains(x.Asks, "match") || slices.Contains(x.Asks, "search")
}

// summarised are the headings of an International Patient Summary.
var summarised = []dataset.Heading{dataset.Demographics, dataset.Problems, dataset.Allergies, dataset.Medications, dataset.Immunisations, dataset.Procedures, dataset.Devices,
	dataset.Results, dataset.Observations, dataset.EndOfLife, dataset.CarePlans, dataset.SocialContext, dataset.Maternity, dataset.Alerts}

// MayGive reports whether a neighbour is asked for a heading.
func (n Neighbour) MayGive(h dataset.Heading) bool {
	switch {
	case len(n.Gives) > 0:
		return slices.Contains(n.Gives, h)
	case n.Kind == "mhd", n.Kind == KindXCA:
		return h == dataset.Documents
	case n.Kind == "ips":
		return slices.Contains(summarised, h)
	}
	return true
}

// Asking is how one source may be asked. Zero values are the usual.
type Asking struct {
	Concurrent int           // questions at the same time; 16
	PerSecond  int           // questions begun in a second; unbounded
	Bytes      int64         // of one answer, over all its pages; the connector's own bound
	Pages      int           // of one search; the connector's own bound
	Hedge      time.Duration // after which a question that is not answered is asked a second time beside the first; 0: never
	Remember   time.Duration // how long an answer in full serves the same question of the same user again; 0: not at all
	LastGood   time.Duration // how old an earlier answer may be that is shown, and marked, when the source does not answer; 0: none is kept
}

// Gathering is how this node gathers records. Zero values are the usual.
type Gathering struct {
	Deadline time.Duration // after which a record is shown with what there is, whatever a source is allowed; 10 s
	// Fresh is, by heading, how lately a source that sends must have been heard for what it sent to be up to date. A heading that is not here: the usual, where it
	// could be asked for instead; else without limit.
	Fresh  map[dataset.Heading]time.Duration
	AtOnce int // records gathered at the same time, before others are asked to come again; 1024
}

// Probing is how this region finds out what each source can really give. Zero values are the usual.
type Probing struct {
	As       string        // id of the user as whom sources are asked, for their audit and their decision
	Patients []string      // test patients, each an NHS number or SYSTEM|VALUE; a source is asked about the first whom it knows
	Every    time.Duration // how often all sources are probed; 0: only when somebody says so
	Holds    time.Duration // for how long what was found counts in planning; 30 days
	Tries    int           // questions of each kind, from which the speed is told; 3
}

// A User may sign in at a small site that has no identity provider.
type User struct {
	ID           string
	Name         string
	Role         string
	Organisation string
	TokenSHA256  string // hex
	PersonRef    string // for a citizen: how the node knows whose record is theirs
	System       string // for a system: the id of the system whose record it keeps here
	Workgroups   []string
	Activities   []string // national RBAC activities to which they are held; nil: to their role alone
}

// Limits are how often something may be done in a minute; 0: as often as one likes.
type Limits struct {
	Attempts    int // failed attempts to get in, from one network address
	Opens       int // questions about people's records by one user
	ClientOpens int // and by one application, system or neighbour, for all of its users
}

// DefaultLimits are those of a region file that says nothing of them.
var DefaultLimits = Limits{Attempts: 60, Opens: 600, ClientOpens: 12000}

// Policy is who answers for the agreements as they stand in the file, and what else deciding needs.
type Policy struct {
	Version   string            // changed with every change of what is shared
	Author    string            // who answers for it
	Explain   []string          // roles and national RBAC activities (B0360 …) that may have a gathering explained; none: nobody
	Reason    string            // what was changed, and why
	OptOuts   string            // a file of the NHS numbers that may be used for research and planning, as the MESH check service answers; "" for none
	CodeLists string            // a folder of sensitive code lists, beside those built in; "" for none
	Sensitive map[string]string // by set: restrict, withhold or show
	// Whose word opens what others hold: on who acts for a person, and on what a person permits. Ids of systems; none: nobody's.
	Proxies, Permissions []string
	// SignedReleases: a system released to more than testers bears a clinical-safety sign-off.
	SignedReleases bool
}

// Above are the bodies that an organisation is part of, nearest first; of one that was succeeded, its successor and the bodies which that is part of. One that is
// part of itself, by whatever way, ends there.
func (r *Region) Above(ods string) []string {
	var out []string
	for next := ods; ; {
		o, ok := r.Organisation(next)
		up := cmp.Or(o.SucceededBy, o.PartOf)
		if !ok || up == "" || up == ods || slices.Contains(out, up) {
			return out
		}
		out = append(out, up)
		next = up
	}
}

// Current is the organisation that now does what one did: its successor, or its successor's; itself while it goes on, and where successions go round in a circle.
func (r *Region) Current(ods string) string {
	next := ods
	for range len(r.Organisations) {
		o, ok := r.Organisation(next)
		if !ok || o.SucceededBy == "" {
			return next
		}
		next = o.SucceededBy
	}
	return ods
}

// Directory is where organisations are looked up nationally. Zero: nowhere.
type Directory struct {
	ODS string // address of the Organisation Data Terminology API
	Key string // where our API key for it is kept
}

// System finds a system by its id.
func (r *Region) System(id string) (System, bool) {
	for _, s := range r.Systems {
		if s.ID == id {
			return s, true
		}
	}
	return System{}, false
}

// Neighbour finds a neighbour by its id.
func (r *Region) Neighbour(id string) (Neighbour, bool) {
	for _, n := range r.Neighbours {
		if n.ID == id {
			return n, true
		}
	}
	return Neighbour{}, false
}

// Organisation finds an organisation by its ODS code.
func (r *Region) Organisation(ods string) (Organisation, bool) {
	for _, o := range r.Organisations {
		if o.ODS == ods {
			return o, true
		}
	}
	return Organisation{}, false
}

// SystemsGiving are the systems that give a heading, in the order of the file.
func (r *Region) SystemsGiving(h dataset.Heading) []System {
	var out []System
	for _, s := range r.Systems {
		if _, ok := s.Gives[h]; ok {
			out = append(out, s)
		}
	}
	return out
}

// Audit is where the audit log goes besides, and what misuse watching knows of.
type Audit struct {
	Feed    string // address of an audit repository: a FHIR base URL, or syslog+tls://host:port; "" for none
	Token   string // where the credential for it is kept
	TLS     TLS    // certificates for it
	Staff   string // the staff register, a CSV file; "" for none
	Watched string // a file of NHS numbers, one a line, of people whose every reading is looked at; "" for none
	Keep    string // months for which the content of what was shown is kept; "" for the usual
}

// SyslogTLS begins the address of an audit repository that takes syslog over TLS. RFC 5425
const SyslogTLS = "syslog+tls://"
