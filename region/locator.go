package region

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tombolo/dataset"
)

// Locator is the region's own record locator, and the national ones that it asks and tells.
type Locator struct {
	Address          string        // public base URL of the locator's own faces, for the links in its answers
	PracticeSettings string        // a file of the England-PracticeSetting value set; "" for none
	Applications     []Application // who may register pointers here, and look them up
	National         []National
	Retrieval        Retrieval
}

// Retrieval is how what pointers lead to is fetched for whoever opens it.
type Retrieval struct {
	Proxy string   // the Spine Secure Proxy; "" for none
	ASID  string   // ours, for it
	Hosts []string // that are gone to without it
	Token string   // where the credential for large documents is kept
	TLS   TLS
}

// An Application is what one application may do at this region's locator for one organisation.
type Application struct {
	ID           string // of a system with a certificate, a client of kind service, or a user
	Organisation string // ODS code; what the request's header names
	Produces     []string
	Consumes     []string // codes of types, or all
	Dates, Loose bool     // it says when a pointer was made; it replaces pointers that are not here
}

// A National is a record locator above the region's, such as the National Record Locator.
type National struct {
	ID, Name     string
	Address      string // base URL; /producer/FHIR/R4 and /consumer/FHIR/R4 are below it
	Token        string // where our credential for it is kept
	TLS          TLS
	As           string // ODS code as which we ask and tell it
	Organisation string // the party to our agreements that it is: what it is told of is decided by them
	Asks         bool
	Types        []string // asked for; all that it lets us have if none
	Deadline     time.Duration
	Cache        time.Duration // for how long its answer about a person is believed
	Publishes    []Published
}

// A Published is one type of pointer that the region registers.
type Published struct {
	Type      string
	Headings  []dataset.Heading // there is one where something is held under any of these; none: whoever is known, or has a document of the type
	URL       string            // where the record is; {pointer} is the pointer's own id, which tells nothing
	Mechanism string            // SSP, Direct, LDR, InContext
	Content   string            // contact, pdf, fhir, page
	Setting   Setting           // the practice setting
	ASID      string            // with SSP
}

// A Setting is a practice setting: a SNOMED CT code and its display.
type Setting struct{ Code, Display string }

// ClinicalSummary is the type of pointer by which a shared care record tells of itself as a whole.
const ClinicalSummary = "887181000000106"

// PointerTypes are the codes of the types of pointer that there are: those that connector/nrl knows.
var PointerTypes = []string{"736253002", "887701000000100", "861421000000109", "1382601000000107", "325691000000100", "736373009", "16521000000101", "736366004",
	"735324008", "2181441000000107", "1363501000000100", "824321000000109", "MAULR", "MAXIB", "749001000000101", ClinicalSummary, "1515851000000101", "HDTAP"}

// Mechanisms are how what a pointer points to is fetched.
var Mechanisms = []string{"SSP", "Direct", "LDR", "InContext"}

// Contents are what is found where a pointer points.
var Contents = []string{"contact", "pdf", "fhir", "page"}

// Usual settings of a national locator.
const (
	DefaultLocatorDeadline = 2 * time.Second
	DefaultLocatorCache    = 10 * time.Minute
)

var locatorShape = block("The region's own record locator (NRL), and the national ones that it asks and tells.",
	field[Region]{"address", "the public base URL of this node, for links in answers: https://record.severn.example", false, text(func(r *Region) *string { return &r.Locator.Address }, anyText)},
	field[Region]{"practice_settings", "a file of the practice settings that a pointer may name: lines of a SNOMED CT code, a comma and its display; without it any code will do", false, text(func(r *Region) *string { return &r.Locator.PracticeSettings }, anyText)},
	field[Region]{"applications", "who may register pointers here and look them up", false, list(func(r *Region) *[]Application { return &r.Locator.Applications }, applicationShape)},
	field[Region]{"national", "locators above this one that are asked and told", false, list(func(r *Region) *[]National { return &r.Locator.National }, nationalShape)},
	field[Region]{"retrieval", "how what pointers lead to is fetched for whoever opens it", false, retrievalShape},
)

var retrievalShape = block("How what a pointer leads to is fetched. Without it pointers say who holds something, and it is opened there.",
	field[Region]{"proxy", "the Spine Secure Proxy, for mechanism SSP: https://proxy.example", false, text(func(r *Region) *string { return &r.Locator.Retrieval.Proxy }, anyText)},
	field[Region]{"asid", "our own accredited system id, for the proxy", false, text(func(r *Region) *string { return &r.Locator.Retrieval.ASID }, asidText)},
	field[Region]{"hosts", "the hosts from which is fetched directly (Direct, LDR), and to which users are sent (InContext): plans.rx1.example, or *.example.nhs.uk", false, list(func(r *Region) *[]string { return &r.Locator.Retrieval.Hosts }, wordItem)},
	field[Region]{"token", "where our credential for large documents (LDR) is kept: an environment variable or a file", false, text(func(r *Region) *string { return &r.Locator.Retrieval.Token }, placeText)},
	field[Region]{"tls", "certificates for the proxy", false, tlsShape(func(r *Region) *TLS { return &r.Locator.Retrieval.TLS })},
)

var applicationShape = block("What one application may do for one organisation.",
	field[Application]{"application", "the id of a system with a certificate, of a client of kind service, or of a user of the role system", true, text(func(a *Application) *string { return &a.ID }, idText)},
	field[Application]{"organisation", "the ODS code of the organisation for which it acts (NHSD-End-User-Organisation-ODS)", true, text(func(a *Application) *string { return &a.Organisation }, odsText)},
	field[Application]{"produces", "the codes of the types that it registers, or all", false, typesReader(func(a *Application) *[]string { return &a.Produces })},
	field[Application]{"consumes", "the codes of the types that it may look up, or all", false, typesReader(func(a *Application) *[]string { return &a.Consumes })},
	field[Application]{"dates", "true if it says itself when a pointer was made", false, yesNo(func(a *Application) *bool { return &a.Dates })},
	field[Application]{"loose", "true if it may replace pointers that are not here", false, yesNo(func(a *Application) *bool { return &a.Loose })},
)

var nationalShape = withDefaults(block("A locator above the region's.",
	field[National]{"id", "a short id; it stands beside what comes from there", true, text(func(n *National) *string { return &n.ID }, idText)},
	field[National]{"name", "what people call it", false, text(func(n *National) *string { return &n.Name }, anyText)},
	field[National]{"address", "its base URL: https://api.service.nhs.uk/record-locator", true, text(func(n *National) *string { return &n.Address }, anyText)},
	field[National]{"token", "where our credential for it is kept: an environment variable or a file, never the secret itself", false, text(func(n *National) *string { return &n.Token }, placeText)},
	field[National]{"tls", "certificates for it", false, tlsShape(func(n *National) *TLS { return &n.TLS })},
	field[National]{"as", "the ODS code as which we ask and tell it", true, text(func(n *National) *string { return &n.As }, odsText)},
	field[National]{"organisation", "the ODS code as which it is party to our agreements: what it is told of is decided by them", false, text(func(n *National) *string { return &n.Organisation }, odsText)},
	field[National]{"asks", "true if it is asked whenever a record is opened", false, yesNo(func(n *National) *bool { return &n.Asks })},
	field[National]{"types", "the codes of the types that are asked for; all that it lets us have if not given", false, typesReader(func(n *National) *[]string { return &n.Types })},
	field[National]{"deadline", "how long it may take to answer; 2s if not given", false, duration(func(n *National) *time.Duration { return &n.Deadline }, 50*time.Millisecond, time.Minute)},
	field[National]{"cache", "for how long its answer about a person is believed; 10m if not given", false, duration(func(n *National) *time.Duration { return &n.Cache }, time.Millisecond, 24*time.Hour)},
	field[National]{"publishes", "the types of pointer that the region registers there", false, list(func(n *National) *[]Published { return &n.Publishes }, publishedShape)},
), func(n *National) { n.Deadline, n.Cache = DefaultLocatorDeadline, DefaultLocatorCache })

var publishedShape = withDefaults(block("One type of pointer that the region registers.",
	field[Published]{"type", "the code of the type; 887181000000106 (Clinical summary) is the shared record as a whole", true, oneOf(func(p *Published) *string { return &p.Type }, "a type of pointer", PointerTypes)},
	field[Published]{"headings", "there is a pointer for whoever has something under any of these; without, of the clinical summary for whoever is known, of others for whoever has a document of that type", false, list(func(p *Published) *[]dataset.Heading { return &p.Headings }, headingNamed)},
	field[Published]{"url", "where the record is; {pointer} stands for the pointer's own id", true, text(func(p *Published) *string { return &p.URL }, anyText)},
	field[Published]{"mechanism", "how it is fetched: SSP, Direct, LDR or InContext", true, oneOf(func(p *Published) *string { return &p.Mechanism }, "a retrieval mechanism", Mechanisms)},
	field[Published]{"content", "what is found there: contact (details to ring), pdf, fhir or page (launched in context)", false, oneOf(func(p *Published) *string { return &p.Content }, "a kind of content", Contents)},
	field[Published]{"setting", "the practice setting, a SNOMED CT code and its display; General practice service if not given", false, settingShape},
	field[Published]{"asid", "with SSP: the accredited system id that the proxy asks", false, text(func(p *Published) *string { return &p.ASID }, asidText)},
), func(p *Published) { p.Setting = Setting{"1060971000000108", "General practice service"} })

var settingShape = block("A practice setting.",
	field[Published]{"code", "a SNOMED CT code", true, text(func(p *Published) *string { return &p.Setting.Code }, sctText)},
	field[Published]{"display", "its display in the England-PracticeSetting value set", true, text(func(p *Published) *string { return &p.Setting.Display }, anyText)},
)

var (
	asidText = pattern{"an accredited system id: 12 digits", regexp.MustCompile(`^[0-9]{12}$`)}
	sctText  = pattern{"a SNOMED CT code", regexp.MustCompile(`^[1-9][0-9]{5,17}$`)}
)

var headingNamed = oneOf(func(h *dataset.Heading) *dataset.Heading { return h }, "a heading of the shared data set", dataset.AllHeadings())

var typeItem = oneOf(func(s *string) *string { return s }, "a type of pointer", PointerTypes)

// typesReader reads the codes of types of pointer, or all.
func typesReader[T any](get func(*T) *[]string) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			if _, ok := n.(*ast.SequenceNode); ok {
				list(get, typeItem).read(d, n, path, to)
				return
			}
			if s, ok := d.scalar(n, path, "all, or a list of types"); ok && d.known(n, path, "all or a list of types", s, []string{"all"}) {
				*get(to) = slices.Clone(PointerTypes)
			}
		},
		schema: func() schema {
			return schema{"oneOf": []schema{{"const": "all"}, {"type": "array", "items": typeItem.schema()}}}
		},
	}
}

// locator checks what the file says of record locators.
func (c *checker) locator() {
	l := c.r.Locator
	c.address("locator.address", l.Address)
	c.address("locator.retrieval.proxy", l.Retrieval.Proxy)
	c.tls("locator.retrieval", l.Retrieval.Proxy, l.Retrieval.TLS)
	if (l.Retrieval.Proxy == "") != (l.Retrieval.ASID == "") {
		c.err("locator.retrieval", "the Spine Secure Proxy must know which system asks it, and where it is", "Write both proxy and asid, or neither")
	}
	for i, h := range l.Retrieval.Hosts {
		if strings.ContainsAny(strings.TrimPrefix(h, "*."), "*/@ ") || !strings.Contains(strings.TrimPrefix(h, "*."), ".") && !strings.HasPrefix(h, "localhost") {
			c.err(fmt.Sprintf("locator.retrieval.hosts[%d]", i), "not a host", "Write it as in addresses, such as plans.rx1.example, or *.example.nhs.uk")
		}
	}
	seen := map[string]bool{}
	for i, a := range l.Applications {
		at := fmt.Sprintf("locator.applications[%d]", i)
		c.organisation(at+".organisation", a.Organisation)
		if !c.asksUs(a.ID) {
			c.err(at+".application", a.ID+" is no system with a certificate, no client of kind service and no user of the role system", "Add it under systems, identity.clients or users")
		}
		if seen[a.ID+" "+a.Organisation] {
			c.err(at, a.ID+" stands twice for "+a.Organisation, "Write all that it may do in one place")
		}
		seen[a.ID+" "+a.Organisation] = true
		if len(a.Produces)+len(a.Consumes) == 0 {
			c.warn(at, a.ID+" may neither register nor look up anything", "Add produces or consumes: all, or a list of types")
		}
	}
	for i, n := range l.National {
		c.national(fmt.Sprintf("locator.national[%d]", i), n)
	}
}

// asksUs reports whether something of the file is a program that may ask this node.
func (c *checker) asksUs(id string) bool {
	if s, ok := c.r.System(id); ok && s.Certificate != "" {
		return true
	}
	if k, ok := c.r.Client(id); ok && k.Kind == ServiceClient {
		return true
	}
	return slices.ContainsFunc(c.r.Users, func(u User) bool { return u.ID == id && u.Role == "system" })
}

func (c *checker) national(at string, n National) {
	c.address(at+".address", n.Address)
	c.tls(at, n.Address, n.TLS)
	c.organisation(at+".as", n.As)
	if n.Organisation != "" {
		c.organisation(at+".organisation", n.Organisation)
	}
	if n.Token == "" && n.TLS.Certificate == "" {
		c.warn(at+".token", n.ID+" is asked without a credential", "Write token: the environment variable or file that holds it")
	}
	switch {
	case len(n.Publishes) > 0 && n.Organisation == "":
		c.err(at+".organisation", n.ID+" is told of people, and nothing says under which agreement", "Add organisation: the ODS code as which it is party to an agreement")
	case len(n.Publishes) == 0 && !n.Asks:
		c.warn(at, n.ID+" is neither asked nor told anything", "Add asks: true, or publishes")
	}
	seen := map[string]bool{}
	for i, p := range n.Publishes {
		c.published(fmt.Sprintf("%s.publishes[%d]", at, i), p, seen)
	}
}

func (c *checker) published(at string, p Published, seen map[string]bool) {
	if seen[p.Type] {
		c.err(at+".type", "the type "+p.Type+" stands twice", "A person has one pointer of a type from one organisation: remove one")
	}
	seen[p.Type] = true
	switch ssp := strings.HasPrefix(p.URL, "ssp://"); {
	case p.Mechanism == "SSP" && !ssp:
		c.err(at+".url", "what the Spine Secure Proxy fetches has an address that begins with ssp://", "Write ssp://, without the proxy's own address before it")
	case p.Mechanism != "SSP" && ssp:
		c.err(at+".mechanism", "an address that begins with ssp:// is fetched by the Spine Secure Proxy", "Write mechanism: SSP")
	case !ssp && !strings.HasPrefix(p.URL, "https://") && !strings.HasPrefix(p.URL, "http://127.0.0.1") && !strings.HasPrefix(p.URL, "http://localhost"):
		c.err(at+".url", "not a web address that may be told nationally", "Write it in full, with https://")
	}
	if p.Mechanism == "SSP" && p.ASID == "" {
		c.err(at+".asid", "the Spine Secure Proxy must know which system it asks", "Add asid: its 12 digits")
	}
	if p.Mechanism == "InContext" && !strings.Contains(p.URL, "{pointer}") {
		c.err(at+".url", "nothing in the address says whose record is to be opened", "Write {pointer} where the pointer's id is to stand: https://record.severn.example/launch/nrl/{pointer}")
	}
}
