package region

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"tombolo/dataset"
)

// What a region file may hold. The words after each key are what people read, in messages and in the JSON Schema.

// Kinds are the kinds of organisation.
var Kinds = []Kind{KindGP, KindAcute, KindMentalHealth, KindCommunity, KindSocialCare, KindAmbulance, KindMaternity, KindPrison,
	KindPharmacy, KindHospice, KindCareHome, KindOther}

// Purposes for which an agreement may allow sharing: those that policy knows.
var Purposes = []string{"direct-care", "emergency", "safeguarding", "administration", "patient-request", "research", "planning"}

// Roles that a user may have: those that policy knows. A neighbour is another region's node, acting for its own users.
var Roles = []string{"gp", "hospital-doctor", "nurse", "paramedic", "mental-health", "pharmacist", "social-worker", "care-home",
	"receptionist", "privacy-officer", "operator", "steward", "analyst", "citizen", "neighbour", "system"}

// SystemRoles are those in which the users of a system may act: whoever opens records for care.
var SystemRoles = []string{"gp", "hospital-doctor", "nurse", "paramedic", "mental-health", "pharmacist", "social-worker", "care-home", "receptionist", "neighbour"}

// NeighbourKinds are the kinds of neighbouring record system.
// What is asked of each: a gathering of its own; searches, as of any FHIR R4 server; documents (IHE MHD); a patient summary (HL7 IPS).
var NeighbourKinds = []string{KindTombolo, "fhir", "mhd", "ips", KindXCA}

// KindXCA is an IHE XCA gateway or XDS.b registry: designed (docs/federation.md) and not built. A file that names one is refused.
const KindXCA = "xca"

// KindTombolo is a neighbour that gathers by itself and says what it could not: it is asked for everything that its own sources give.
const KindTombolo = "tombolo"

// Numbers are the national numbers by which a neighbour may be asked.
var Numbers = []string{"nhs", "chi", "hcn"}

// DefaultDeadline is how long a source may take to answer if the file does not say.
const DefaultDeadline = 2 * time.Second

var headings = func() []dataset.Heading {
	out := make([]dataset.Heading, len(dataset.All))
	for i, h := range dataset.All {
		out[i] = h.Heading
	}
	return out
}()

var headingNames = func() []string {
	out := make([]string, len(dataset.All))
	for i, h := range dataset.All {
		out[i] = string(h.Heading)
	}
	return out
}()

var fileShape = block("A region: who is in it, what each system gives and how, what has been agreed, and which regions are joined.",
	field[Region]{"region", "the region's own id and name", true, block("The region.",
		field[Region]{"id", "a short id, used in logs and to neighbours", true, text(func(r *Region) *string { return &r.ID }, idText)},
		field[Region]{"name", "what people call it", true, text(func(r *Region) *string { return &r.Name }, anyText)})},
	field[Region]{"organisations", "the legal bodies, with their ODS codes", true, list(func(r *Region) *[]Organisation { return &r.Organisations }, organisationShape)},
	field[Region]{"systems", "the installed products: each is a source", true, list(func(r *Region) *[]System { return &r.Systems }, systemShape)},
	field[Region]{"agreements", "what the organisations have agreed to share, and for what", false, list(func(r *Region) *[]Agreement { return &r.Agreements }, agreementShape)},
	field[Region]{"neighbours", "other regions' record systems that are asked too", false, list(func(r *Region) *[]Neighbour { return &r.Neighbours }, neighbourShape)},
	field[Region]{"users", "who may sign in, at a site without an identity provider", false, list(func(r *Region) *[]User { return &r.Users }, userShape)},
	field[Region]{"identity", "who may get in besides: identity providers, applications, launching systems", false, identityShape},
	field[Region]{"gpconnect", "the record offered as GP Connect (Access Record Structured) to systems that have a certificate", false, gpConnectShape},
	field[Region]{"audit", "where the audit log goes besides, and what misuse watching knows of", false, auditShape},
	field[Region]{"directory", "where organisations are looked up nationally", false, directoryShape},
	field[Region]{"limits", "how often something may be done in a minute", false, limitsShape},
	field[Region]{"definitions", "FHIR packages (.tgz), folders and files with the profiles that $validate is to know, such as UK Core's; paths relative to the region file", false, list(func(r *Region) *[]string { return &r.Definitions }, text(func(s *string) *string { return s }, anyText))},
	field[Region]{"locator", "the region's own record locator (NRL), and the national ones that it asks and tells", false, locatorShape},
	field[Region]{"policy", "who answers for the agreements as they stand here, and what else deciding needs", false, policyShape},
	field[Region]{"gathering", "how this node gathers records", false, gatheringShape},
	field[Region]{"probing", "how it is found out what each source can really give (tombolo probe)", false, probingShape},
)

var gatheringShape = block("How this node gathers records.",
	field[Region]{"deadline", "after which a record is shown with what there is, whatever its sources are allowed; 10s if not given", false, duration(func(r *Region) *time.Duration { return &r.Gathering.Deadline }, 50*time.Millisecond, time.Minute)},
	field[Region]{"fresh", "by heading, how lately a source that sends must have been heard for what it sent to count as up to date, such as {allergies: 1h}", false, freshReader},
	field[Region]{"at_once", "how many records are gathered at the same time before others are asked to come again; 1024 if not given", false, number(func(r *Region) *int { return &r.Gathering.AtOnce }, 1, 1<<20)},
)

var probingShape = block("How it is found out what each source can really give: its headings, how deep, how fast and how fresh.",
	field[Region]{"as", "the id of the user as whom sources are asked about a test patient, for their audit and their decision", false, text(func(r *Region) *string { return &r.Probing.As }, idText)},
	field[Region]{"patients", "test patients, each an NHS number or SYSTEM|VALUE; a source is asked about the first whom it knows. Never a real person's", false, list(func(r *Region) *[]string { return &r.Probing.Patients }, text(func(s *string) *string { return s }, anyText))},
	field[Region]{"every", "how often all sources are probed; only when somebody says so if not given", false, duration(func(r *Region) *time.Duration { return &r.Probing.Every }, time.Minute, 90*24*time.Hour)},
	field[Region]{"holds", "for how long what was found counts when a gathering is planned; 720h if not given", false, duration(func(r *Region) *time.Duration { return &r.Probing.Holds }, time.Minute, 365*24*time.Hour)},
	field[Region]{"tries", "how often each question is asked, to tell the speed; 3 if not given", false, number(func(r *Region) *int { return &r.Probing.Tries }, 1, 100)},
)

// askingShape reads how one source may be asked.
func askingShape[T any](get func(*T) *Asking) reader[T] {
	return block("How it may be asked. Whatever is not given is as usual.",
		field[T]{"concurrent", "questions at the same time; 16 if not given", false, number(func(t *T) *int { return &get(t).Concurrent }, 1, 10_000)},
		field[T]{"per_second", "questions begun in a second; unbounded if not given", false, number(func(t *T) *int { return &get(t).PerSecond }, 1, 100_000)},
		field[T]{"bytes", "the most bytes of one answer over all its pages", false, number(func(t *T) *int64 { return &get(t).Bytes }, 1<<10, 1<<30)},
		field[T]{"pages", "the most pages of one search", false, number(func(t *T) *int { return &get(t).Pages }, 1, 10_000)},
		field[T]{"hedge", "after which a question that is not answered yet is asked a second time beside the first; never if not given, since it doubles what a slow source has to do", false, duration(func(t *T) *time.Duration { return &get(t).Hedge }, 10*time.Millisecond, time.Minute)},
		field[T]{"remember", "how long an answer in full serves the same question of the same user again; not at all if not given", false, duration(func(t *T) *time.Duration { return &get(t).Remember }, time.Second, 5*time.Minute)},
		field[T]{"last_good", "how old an earlier answer may be that is shown, marked with its age, when the source does not answer; none is kept if not given", false, duration(func(t *T) *time.Duration { return &get(t).LastGood }, time.Minute, 90*24*time.Hour)},
	)
}

// SensitiveSets are the sets of codes that make an entry sensitive: the four that general practice leaves out of summaries, and two by statute.
var SensitiveSets = []string{"gender", "assisted-fertilisation", "termination", "sexually-transmitted", "hfe-act", "gender-recognition-act"}

// SensitiveWays are what may be done with a set.
var SensitiveWays = []string{"restrict", "withhold", "show"}

// SourceLabels are the security labels that everything from a system may be given.
var SourceLabels = []string{"R", "V", "NOPAT", "PSY", "SEX", "STD", "HIV", "SDV", "ETH", "SUD", "GDIS"}

var policyShape = block("The agreements' version and author, and what else deciding needs. A file whose agreements differ from those in force is taken only under another version.",
	field[Region]{"version", "the version of what is agreed; change it with every change", true, text(func(r *Region) *string { return &r.Policy.Version }, anyText)},
	field[Region]{"author", "who answers for it, by name and office", true, text(func(r *Region) *string { return &r.Policy.Author }, anyText)},
	field[Region]{"reason", "what was changed and why", false, text(func(r *Region) *string { return &r.Policy.Reason }, anyText)},
	field[Region]{"opt_outs", "a file of the NHS numbers that may be used for research and planning, as the National Data Opt-Out check answers; without it nobody's may", false, text(func(r *Region) *string { return &r.Policy.OptOuts }, anyText)},
	field[Region]{"code_lists", "a folder of sensitive code lists, beside those built in", false, text(func(r *Region) *string { return &r.Policy.CodeLists }, anyText)},
	field[Region]{"proxies", "the systems whose Consents are believed on who acts for a person: a parent, a carer, an attorney (validated relationships); nobody's if not given, and nobody acts for anybody", false, list(func(r *Region) *[]string { return &r.Policy.Proxies }, text(func(s *string) *string { return s }, idText))},
	field[Region]{"permissions", "the systems whose Consents are believed on what a person permits of what others hold: research although the person has opted out, or more than another of their Consents leaves; nobody's if not given", false, list(func(r *Region) *[]string { return &r.Policy.Permissions }, text(func(s *string) *string { return s }, idText))},
	field[Region]{"signed_releases", "true if no system may be released to more than testers without a clinical-safety sign-off", false, yesNo(func(r *Region) *bool { return &r.Policy.SignedReleases })},
	field[Region]{"explain", "roles and national RBAC activities (B0360 …) that may have the plan of a gathering explained; nobody if not given", false, list(func(r *Region) *[]string { return &r.Policy.Explain }, text(func(s *string) *string { return s }, anyText))},
	field[Region]{"sensitive", "what is done with each set of sensitive codes: restrict, withhold or show; restrict if not given", false, sensitiveReader},
)

var sensitiveReader = reader[Region]{
	read: func(d *decoder, n ast.Node, path string, r *Region) {
		words(func(r *Region) *map[string]string { return &r.Policy.Sensitive }, "a set of sensitive codes", "sets with what is done with them, such as {termination: withhold}", SensitiveSets, readSensitiveWay, nil).read(d, n, path, r)
	},
	schema: func() schema { return wordsSchema(SensitiveSets, schema{"enum": SensitiveWays}) },
}

func readSensitiveWay(d *decoder, n ast.Node, path string) (string, bool) {
	s, ok := d.scalar(n, path, "restrict, withhold or show")
	return s, ok && d.known(n, path, "a way with a set", s, SensitiveWays)
}

var limitsShape = block("How often something may be done in a minute, by each node; 0: as often as one likes.",
	field[Region]{"attempts", "failed attempts to get in, from one network address; 60 if not given. Behind a proxy everybody has its address: let the proxy limit instead", false, number(func(r *Region) *int { return &r.Limits.Attempts }, 0, 999999)},
	field[Region]{"opens", "questions about people's records by one user, of which one that finds nobody counts for ten; 600 if not given", false, number(func(r *Region) *int { return &r.Limits.Opens }, 0, 999999)},
	field[Region]{"client_opens", "the same by one application, system or neighbour, for all of its users; 12000 if not given", false, number(func(r *Region) *int { return &r.Limits.ClientOpens }, 0, 999999)},
)

var auditShape = block("The audit log and the watching of it.",
	field[Region]{"feed", "address of an audit repository that is sent every event (IHE ATNA, ITI-20): a FHIR base URL, or syslog+tls://host:port for DICOM messages by syslog", false, text(func(r *Region) *string { return &r.Audit.Feed }, anyText)},
	field[Region]{"token", "where our credential for it is kept: an environment variable or a file, never the secret itself", false, text(func(r *Region) *string { return &r.Audit.Token }, placeText)},
	field[Region]{"tls", "certificates for it", false, tlsShape(func(r *Region) *TLS { return &r.Audit.TLS })},
	field[Region]{"staff", "the staff register, a CSV file with the columns user, surname, forename, nhs_number, organisation, address, postcode", false, text(func(r *Region) *string { return &r.Audit.Staff }, anyText)},
	field[Region]{"watched", "a file of NHS numbers, one a line, of people whose every reading is looked at", false, text(func(r *Region) *string { return &r.Audit.Watched }, anyText)},
	field[Region]{"keep", "for how many months the content of what was shown is kept; 96 if not given", false, text(func(r *Region) *string { return &r.Audit.Keep }, monthsText)},
)

var gpConnectShape = block("The record as GP Connect, on the listener for systems (serve --systems).",
	field[Region]{"organisation", "the ODS code of the organisation that answers for it; it stands in the address, /ODS/STU3/1/gpconnect/structured/fhir", true, text(func(r *Region) *string { return &r.GPConnect.Organisation }, odsText)},
	field[Region]{"asid", "its accredited system id: what a request's Ssp-To must be", false, text(func(r *Region) *string { return &r.GPConnect.ASID }, anyText)},
	field[Region]{"address", "the public URL of the listener for systems, such as https://systems.severn.example; tokens must be made for it", false, text(func(r *Region) *string { return &r.GPConnect.Address }, anyText)},
)

var organisationShape = block("A legal body.",
	field[Organisation]{"ods", "its ODS code", true, text(func(o *Organisation) *string { return &o.ODS }, odsText)},
	field[Organisation]{"name", "what people call it", true, text(func(o *Organisation) *string { return &o.Name }, anyText)},
	field[Organisation]{"kind", "what kind of body it is", true, oneOf(func(o *Organisation) *Kind { return &o.Kind }, "a kind of organisation", Kinds)},
	field[Organisation]{"succeeded_by", "the ODS code of the body that took over what it did, once it has: whoever is registered here is registered there", false, text(func(o *Organisation) *string { return &o.SucceededBy }, odsText)},
	field[Organisation]{"part_of", "the ODS code of the body that it belongs to: a site of a trust, a practice of a network", false, text(func(o *Organisation) *string { return &o.PartOf }, odsText)},
)

var systemShape = withDefaults(block("One installed product at one organisation: a source.",
	field[System]{"id", "a short id; it stands in every entry's provenance, so choose it once", true, text(func(s *System) *string { return &s.ID }, idText)},
	field[System]{"name", "what people call it; the organisation's name if not given", false, text(func(s *System) *string { return &s.Name }, anyText)},
	field[System]{"organisation", "the ODS code of the organisation that runs it", true, text(func(s *System) *string { return &s.Organisation }, odsText)},
	field[System]{"product", "the product's name, for the map", false, text(func(s *System) *string { return &s.Product }, anyText)},
	field[System]{"connector", "how it speaks: " + connectorNames(), true, oneOf(func(s *System) *string { return &s.Connector }, "a connector", connectorList())},
	field[System]{"listen", "host:port on which we listen for what it sends", false, text(func(s *System) *string { return &s.Listen }, anyText)},
	field[System]{"address", "URL at which it is asked", false, text(func(s *System) *string { return &s.Address }, anyText)},
	field[System]{"drop", "folder in which its files appear", false, text(func(s *System) *string { return &s.Drop }, anyText)},
	field[System]{"mapping", "how its files are read: a mapping file's path, relative to the region file, or builtin:NAME", false, text(func(s *System) *string { return &s.Mapping }, anyText)},
	field[System]{"asid", "its accredited system id, for GP Connect", false, text(func(s *System) *string { return &s.ASID }, anyText)},
	field[System]{"gives", "the headings it gives, each push (it sends), live (we ask) or both (what it sent is taken while it was heard lately, else we ask); a consumer gives none", false, givesReader},
	field[System]{"deadline", "how long it may take to answer; 2s if not given", false, duration(func(s *System) *time.Duration { return &s.Deadline }, 50*time.Millisecond, time.Minute)},
	field[System]{"release", "for whom its data is switched on: off, testers, all, a list of ODS codes, or a list of stages by unit and heading; all if not given", false, releaseReader},
	field[System]{"labels", "security labels that everything it gives bears, besides its own", false, list(func(s *System) *[]string { return &s.Labels }, oneOf(func(s *string) *string { return s }, "a security label", SourceLabels))},
	field[System]{"options", "settings of its connector", false, options(func(s *System) *map[string]string { return &s.Options })},
	field[System]{"tls", "certificates for asking it", false, tlsShape(func(s *System) *TLS { return &s.TLS })},
	field[System]{"limits", "how it may be asked", false, askingShape(func(s *System) *Asking { return &s.Limits })},
	field[System]{"certificate", "the client certificate by which it is known when it asks us: its common name, DNS name or URI, sha256: with its fingerprint, or spki: with the SHA-256 of its public key", false, text(func(s *System) *string { return &s.Certificate }, anyText)},
	field[System]{"role", "the role in which the users of a system with a certificate act here", false, oneOf(func(s *System) *string { return &s.Role }, "a role in which a system may ask", SystemRoles)},
	field[System]{"asks_for", "ODS codes of organisations besides its own for whose users a system with a certificate may ask", false, list(func(s *System) *[]string { return &s.AsksFor }, odsItem)},
	field[System]{"issuer", "what a system with a certificate calls itself in the tokens of GP Connect (iss); anything if not given", false, text(func(s *System) *string { return &s.Issuer }, anyText)},
), func(s *System) {
	s.Deadline = DefaultDeadline
	s.Release = Release{All: true}
})

// tlsShape reads the certificate files of connections that we make; paths start at the region file.
func tlsShape[T any](get func(*T) *TLS) reader[T] {
	path := func(of func(*TLS) *string) reader[T] {
		return text(func(t *T) *string { return of(get(t)) }, anyText)
	}
	return block("Certificates for connections that we make. They are read again when the files change.",
		field[T]{"certificate", "the certificate that we show, with its chain, a PEM file", false, path(func(t *TLS) *string { return &t.Certificate })},
		field[T]{"key", "its private key, a PEM file", false, path(func(t *TLS) *string { return &t.Key })},
		field[T]{"ca", "the authorities whose certificates the other end may have, a PEM file; those that the machine trusts if not given", false, path(func(t *TLS) *string { return &t.CA })},
		field[T]{"crl", "their revocation lists, a PEM or DER file", false, path(func(t *TLS) *string { return &t.CRL })})
}

// withDefaults fills in what a file need not say before reading what it says.
func withDefaults[T any](r reader[T], defaults func(*T)) reader[T] {
	return reader[T]{schema: r.schema, read: func(d *decoder, n ast.Node, path string, to *T) {
		defaults(to)
		r.read(d, n, path, to)
	}}
}

var givesReader = reader[System]{
	read:   readGives,
	schema: func() schema { return wordsSchema(headingNames, schema{"enum": []Way{Push, Live, Both}}) },
}

// readGives reads "gives: {allergies: live}".
func readGives(d *decoder, n ast.Node, path string, s *System) {
	var byName map[string]Way
	words(func(*System) *map[string]Way { return &byName }, "a heading of the shared data set", "headings with their way, such as {allergies: live, encounters: push}", headingNames, readWay, nil).read(d, n, path, s)
	s.Gives = make(map[dataset.Heading]Way, len(byName))
	for h, w := range byName {
		s.Gives[dataset.Heading(h)] = w
	}
}

func readWay(d *decoder, n ast.Node, path string) (Way, bool) {
	s, ok := d.scalar(n, path, "push, live or both")
	return Way(s), ok && d.known(n, path, "a way of giving", s, []string{string(Push), string(Live), string(Both)})
}

var odsItem = text(func(s *string) *string { return s }, odsText)

var agreementShape = block("A dated data sharing agreement.",
	field[Agreement]{"id", "a short id; it stands in the audit log", true, text(func(a *Agreement) *string { return &a.ID }, idText)},
	field[Agreement]{"parties", "the ODS codes of those who share with each other", true, list(func(a *Agreement) *[]string { return &a.Parties }, odsItem)},
	field[Agreement]{"purposes", "what for", true, list(func(a *Agreement) *[]string { return &a.Purposes }, oneOf(func(s *string) *string { return s }, "a purpose", Purposes))},
	field[Agreement]{"headings", "all, or a list of headings", true, headingsReader},
	field[Agreement]{"roles", "only users of these roles; any if not given", false, list(func(a *Agreement) *[]string { return &a.Roles }, oneOf(func(s *string) *string { return s }, "a role", Roles))},
	field[Agreement]{"basis", "the legal basis, for those who read it", false, text(func(a *Agreement) *string { return &a.Basis }, anyText)},
	field[Agreement]{"from", "the first day", true, day(func(a *Agreement) *time.Time { return &a.From }, false)},
	field[Agreement]{"until", "the last day; open-ended if not given", false, day(func(a *Agreement) *time.Time { return &a.Until }, true)},
)

var headingsReader = reader[Agreement]{
	read: func(d *decoder, n ast.Node, path string, a *Agreement) {
		if _, ok := n.(*ast.SequenceNode); ok {
			var names []string
			list(func(*Agreement) *[]string { return &names }, headingItem).read(d, n, path, a)
			for _, h := range names {
				if h != "" {
					a.Headings = append(a.Headings, dataset.Heading(h))
				}
			}
			return
		}
		if s, ok := d.scalar(n, path, "all, or a list of headings"); ok {
			a.AllHeadings = d.known(n, path, "all or a list of headings", s, []string{"all"})
		}
	},
	schema: func() schema {
		return schema{"oneOf": []schema{{"const": "all"}, {"type": "array", "items": headingItem.schema()}}}
	},
}

var headingItem = oneOf(func(s *string) *string { return s }, "a heading of the shared data set", headingNames)

var directoryShape = block("The national directory of organisations, in which operators are told of what has changed.",
	field[Region]{"ods", "address of the Organisation Data Terminology API, such as https://api.service.nhs.uk/organisation-data-terminology-api/fhir", true, text(func(r *Region) *string { return &r.Directory.ODS }, anyText)},
	field[Region]{"key", "where our API key for it is kept: an environment variable or a file, never the secret itself", false, text(func(r *Region) *string { return &r.Directory.Key }, placeText)},
)

var neighbourShape = block("Another region's record system.",
	field[Neighbour]{"id", "a short id; it stands beside what comes from there", true, text(func(n *Neighbour) *string { return &n.ID }, idText)},
	field[Neighbour]{"name", "what people call it", false, text(func(n *Neighbour) *string { return &n.Name }, anyText)},
	field[Neighbour]{"kind", "what it is: tombolo; fhir, a FHIR R4 server; mhd, an IHE MHD document responder; ips, a server of International Patient Summaries; xca, an IHE XCA gateway, is not built", true, oneOf(func(n *Neighbour) *string { return &n.Kind }, "a kind of neighbour", NeighbourKinds)},
	field[Neighbour]{"address", "its base URL", true, text(func(n *Neighbour) *string { return &n.Address }, anyText)},
	field[Neighbour]{"token", "where our credential for it is kept: an environment variable or a file, never the secret itself", false, text(func(n *Neighbour) *string { return &n.Token }, placeText)},
	field[Neighbour]{"issuer", "who it says it is when its users ask us (its identity.issuer)", false, text(func(n *Neighbour) *string { return &n.Issuer }, anyText)},
	field[Neighbour]{"keys", "where the public keys are by which it signs for its users: an https address, read with this neighbour's tls where it is of the same host as its address, or a file; without, its users may not ask us", false, text(func(n *Neighbour) *string { return &n.Keys }, anyText)},
	field[Neighbour]{"certificate", "the client certificate without which nothing that it signs is believed: named like a system's", false, text(func(n *Neighbour) *string { return &n.Certificate }, anyText)},
	field[Neighbour]{"organisation", "the ODS code as which it is party to our agreements", false, text(func(n *Neighbour) *string { return &n.Organisation }, odsText)},
	field[Neighbour]{"assertion", "how one that is not a Tombolo is told, signed by us, which user is asking (IHE IUA); it is told nothing but our own credential if not given", false, assertionShape},
	field[Neighbour]{"only-asks", "true if it asks us and we do not ask it", false, yesNo(func(n *Neighbour) *bool { return &n.OnlyAsks })},
	field[Neighbour]{"last_resort", "true if it is asked only for what this region's own sources leave open", false, yesNo(func(n *Neighbour) *bool { return &n.LastResort })},
	field[Neighbour]{"tls", "certificates for asking it", false, tlsShape(func(n *Neighbour) *TLS { return &n.TLS })},
	field[Neighbour]{"gives", "the headings that it gives; all that its kind can if not given", false, list(func(n *Neighbour) *[]dataset.Heading { return &n.Gives }, oneOf(func(h *dataset.Heading) *dataset.Heading { return h }, "a heading of the shared data set", headings))},
	field[Neighbour]{"numbers", "the national numbers by which it knows people, the best first: nhs, chi, hcn; each that is known is tried if not given", false, list(func(n *Neighbour) *[]string { return &n.Numbers }, oneOf(func(s *string) *string { return s }, "a national number", Numbers))},
	field[Neighbour]{"index", "where it is asked who somebody is there, if no number is known by which it knows them", false, indexShape},
	field[Neighbour]{"deadline", "how long it may take to answer; 2s if not given", false, duration(func(n *Neighbour) *time.Duration { return &n.Deadline }, 50*time.Millisecond, time.Minute)},
	field[Neighbour]{"limits", "how it may be asked", false, askingShape(func(n *Neighbour) *Asking { return &n.Limits })},
	field[Neighbour]{"options", "settings", false, options(func(n *Neighbour) *map[string]string { return &n.Options })},
)

var assertionShape = block("How a neighbour that is not a Tombolo is told which user is asking: by a statement that we sign with our keys (identity.issuer/oauth/keys).",
	field[Neighbour]{"as", "bearer: the statement is the bearer token; exchange: it is exchanged for one at the neighbour's token endpoint (RFC 7523); header: it goes in a header beside our own credential", true, oneOf(func(n *Neighbour) *string { return &n.Assertion.As }, "a way for a statement to go", AssertionWays)},
	field[Neighbour]{"audience", "for whom it is (aud); the neighbour's address if not given", false, text(func(n *Neighbour) *string { return &n.Assertion.Audience }, anyText)},
	field[Neighbour]{"token", "the token endpoint, for exchange", false, text(func(n *Neighbour) *string { return &n.Assertion.Token }, anyText)},
	field[Neighbour]{"scope", "the scope that is asked for there; none if not given", false, text(func(n *Neighbour) *string { return &n.Assertion.Scope }, anyText)},
	field[Neighbour]{"header", "the header's name, for header", false, text(func(n *Neighbour) *string { return &n.Assertion.Header }, anyText)},
)

var indexShape = withDefaults(block("A neighbour's identity index: IHE PIXm and PDQm. The neighbour's own credential goes with each question.",
	field[Neighbour]{"address", "its FHIR base URL: https://record.wye.example/identity", true, text(func(n *Neighbour) *string { return &n.Index.Address }, anyText)},
	field[Neighbour]{"asks", "how it is asked, one after the other: pix, by identifier; match and search, by name, birth date and where the person lives, which it is told then; [pix] if not given", false, list(func(n *Neighbour) *[]string { return &n.Index.Asks }, oneOf(func(s *string) *string { return s }, "a way of asking an index", IndexWays))},
	field[Neighbour]{"wanted", "the systems of the identifiers by which the neighbour is asked then; those of its numbers if not given", false, list(func(n *Neighbour) *[]string { return &n.Index.Wanted }, wordItem)},
	field[Neighbour]{"get", "true if it takes $ihe-pix by GET alone: people's numbers stand in its URLs then, and in the logs of whatever is on the way", false, yesNo(func(n *Neighbour) *bool { return &n.Index.Get })},
	field[Neighbour]{"deadline", "how long it may take to answer, of the neighbour's own deadline; 1s if not given", false, duration(func(n *Neighbour) *time.Duration { return &n.Index.Deadline }, 50*time.Millisecond, time.Minute)},
	field[Neighbour]{"cache", "for how long its answer about a person is believed; 10m if not given", false, duration(func(n *Neighbour) *time.Duration { return &n.Index.Cache }, time.Millisecond, 24*time.Hour)},
	field[Neighbour]{"limits", "how it may be asked; 20 questions a second if not given", false, askingShape(func(n *Neighbour) *Asking { return &n.Index.Limits })},
), func(n *Neighbour) {
	n.Index.Deadline, n.Index.Cache, n.Index.Limits.PerSecond = DefaultIndexDeadline, DefaultIndexCache, DefaultIndexPerSecond
})

var userShape = block("Somebody who may sign in at a small site.",
	field[User]{"id", "a short id; it stands in the audit log", true, text(func(u *User) *string { return &u.ID }, idText)},
	field[User]{"name", "their name, as the audit log shows it", true, text(func(u *User) *string { return &u.Name }, anyText)},
	field[User]{"role", "what they may see follows from it", true, oneOf(func(u *User) *string { return &u.Role }, "a role", Roles)},
	field[User]{"organisation", "the ODS code of the organisation they act for", false, text(func(u *User) *string { return &u.Organisation }, odsText)},
	field[User]{"token_sha256", "the SHA-256 of their sign-in token, in hexadecimal; without it they act in developer mode only", false, text(func(u *User) *string { return &u.TokenSHA256 }, hashText)},
	field[User]{"workgroups", "the workgroups they belong to", false, list(func(u *User) *[]string { return &u.Workgroups }, text(func(s *string) *string { return s }, idText))},
	field[User]{"activities", "the national RBAC activities (B0360 …) to which they are held, besides their role; if not given, to their role alone", false, list(func(u *User) *[]string { return &u.Activities }, text(func(s *string) *string { return s }, activityCode))},
	field[User]{"person", "for a citizen: whose record is theirs", false, text(func(u *User) *string { return &u.PersonRef }, anyText)},
	field[User]{"system", "for the role system: the id of the system whose record it reads and writes over the FHIR API", false, text(func(u *User) *string { return &u.System }, idText)},
)

// options reads settings that only a connector understands.
func options[T any](get func(*T) *map[string]string) reader[T] {
	return words(get, "", "settings, each a key and a plain value", nil, func(d *decoder, n ast.Node, path string) (string, bool) {
		return d.scalar(n, path, "a plain value")
	}, schema{"type": []string{"string", "number", "boolean"}})
}
