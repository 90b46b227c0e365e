package region

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"tombolo/search/scope"
)

// Identity is who may get in, and how: beside the users that the file names itself, those whom identity providers know, the
// applications and systems that are registered, and the systems that launch the record in the context of a patient.
type Identity struct {
	Issuer    string // this node's own public base URL, by which it signs; "" for the address at which it is asked
	Providers []Provider
	Clients   []Client
	Launchers []Launcher
}

// A Provider is an OpenID Connect provider whose users may sign in here.
type Provider struct {
	ID, Name     string
	Issuer       string            // its issuer, an https URL: what it is is read from there
	Client       string            // what we are called there
	Secret, Key  string            // where our credential for it is kept: a shared secret, or our private key (a JWK)
	Scopes       []string          // what is asked of it; openid profile if not given
	Parameters   map[string]string // further parameters of the request, such as acr_values or vtr
	Claims       map[string]string // which of its claims gives user, name, role, organisation, person, assurance
	Roles        map[string]string // its role codes, and what they are here
	Activities   map[string]string // its codes for activities, and which national RBAC activity (B0360 …) each is; none: its codes are those
	Role         string            // of everybody who comes from it, where it gives no roles (citizens)
	Organisation string            // of everybody who comes from it, where it gives none
	LaunchScope  string            // the scope that its in-context launch tokens bear, with which a pointer to this record is followed; "": none is taken
	// LaunchIntrospect has it asked about tokens that say nothing by themselves (RFC 7662); LaunchClients are those whose tokens are taken although the answer does not say for whom they are.
	LaunchIntrospect bool
	LaunchClients    []string
	Assurance        []string // the values of the assurance claim that are good enough; none: any
}

// What a provider's claims may be mapped to.
var claimNames = []string{"user", "name", "role", "activities", "organisation", "person", "assurance"}

// A ClientKind says how a client proves who it is.
type ClientKind string

// The kinds of client. OAuth 2.1 §2.1; SMART App Launch 2.2 client-confidential-asymmetric.html, backend-services.html
const (
	PublicClient       ClientKind = "public"       // an application on a user's device: PKCE alone
	ConfidentialClient ClientKind = "confidential" // an application with a server: PKCE and its own key
	ServiceClient      ClientKind = "service"      // a system, with nobody signed in: its own key
)

// ClientKinds are all of them.
var ClientKinds = []ClientKind{PublicClient, ConfidentialClient, ServiceClient}

// A Client is a registered application or system.
type Client struct {
	ID, Name     string
	Kind         ClientKind
	Redirects    []string // where users are sent back to, each exactly
	Launch       string   // where it is started from here (SMART EHR launch); "" if it is not
	Scopes       []string // the most that it may be given
	Keys         string   // where its public keys are: an https address or a file
	Role         string   // of a service: what it may see follows from it
	Organisation string   // of a service: the party to agreements for which it acts
	System       string   // of a service with the role system: whose own record it reads and writes
	Exchanges    []string // providers whose ID tokens it may exchange for access
	Introspects  bool     // it may ask what a token is worth
}

// A Launcher is a system from which the record is opened in the context of a patient.
type Launcher struct {
	ID, Name     string
	Organisation string            // ODS code: whose users it launches
	Key          string            // where the key that we share with it is kept: 32 bytes, base64
	Keys         string            // or where its public keys are
	Issuer       string            // with keys: who it says it is
	Users        map[string]string // its users, and who they are in this file; none: they must sign in
	FHIR         string            // of one that launches as SMART App Launch says: its FHIR base address
	Client       string            // and what we are called there
}

// Provider finds a provider by its id.
func (r *Region) Provider(id string) (Provider, bool) {
	i := slices.IndexFunc(r.Identity.Providers, func(p Provider) bool { return p.ID == id })
	if i < 0 {
		return Provider{}, false
	}
	return r.Identity.Providers[i], true
}

// Client finds a client by its id.
func (r *Region) Client(id string) (Client, bool) {
	i := slices.IndexFunc(r.Identity.Clients, func(c Client) bool { return c.ID == id })
	if i < 0 {
		return Client{}, false
	}
	return r.Identity.Clients[i], true
}

// Launcher finds a launcher by its id.
func (r *Region) Launcher(id string) (Launcher, bool) {
	i := slices.IndexFunc(r.Identity.Launchers, func(l Launcher) bool { return l.ID == id })
	if i < 0 {
		return Launcher{}, false
	}
	return r.Identity.Launchers[i], true
}

var identityShape = block("Who may get in, beside the users of this file.",
	field[Region]{"issuer", "this node's own public base URL, by which it signs what it says; the address at which it is asked if not given", false, text(func(r *Region) *string { return &r.Identity.Issuer }, anyText)},
	field[Region]{"providers", "OpenID Connect providers whose users may sign in here", false, list(func(r *Region) *[]Provider { return &r.Identity.Providers }, providerShape)},
	field[Region]{"clients", "the applications and systems that are registered", false, list(func(r *Region) *[]Client { return &r.Identity.Clients }, clientShape)},
	field[Region]{"launchers", "the systems from which the record is opened in the context of a patient", false, list(func(r *Region) *[]Launcher { return &r.Identity.Launchers }, launcherShape)},
)

var providerShape = block("An OpenID Connect provider: CIS2, NHS login, a trust's own.",
	field[Provider]{"id", "a short id; it stands before its users' ids", true, text(func(p *Provider) *string { return &p.ID }, idText)},
	field[Provider]{"name", "what people call it, on the sign-in page", true, text(func(p *Provider) *string { return &p.Name }, anyText)},
	field[Provider]{"issuer", "its issuer, an https URL", true, text(func(p *Provider) *string { return &p.Issuer }, anyText)},
	field[Provider]{"client", "what we are called there (client_id)", true, text(func(p *Provider) *string { return &p.Client }, anyText)},
	field[Provider]{"secret", "where the secret that we share with it is kept: an environment variable or a file", false, text(func(p *Provider) *string { return &p.Secret }, placeText)},
	field[Provider]{"key", "where our private key for it (a JWK) is kept: an environment variable or a file", false, text(func(p *Provider) *string { return &p.Key }, placeText)},
	field[Provider]{"scopes", "what is asked of it; [openid, profile] if not given", false, list(func(p *Provider) *[]string { return &p.Scopes }, wordItem)},
	field[Provider]{"parameters", "further parameters of the request, such as acr_values or vtr", false, options(func(p *Provider) *map[string]string { return &p.Parameters })},
	field[Provider]{"launch_scope", "the scope that its in-context launch tokens bear, with which a pointer of the National Record Locator is followed to this record; none is taken if not given", false, text(func(p *Provider) *string { return &p.LaunchScope }, anyText)},
	field[Provider]{"launch_introspect", "true if it is asked about launch tokens that say nothing by themselves (RFC 7662), at the introspection_endpoint that it says of itself; of one provider only, since no other may see such a token", false, yesNo(func(p *Provider) *bool { return &p.LaunchIntrospect })},
	field[Provider]{"launch_clients", "the programs, as it calls them (client_id), whose launch tokens are taken although what it says of a token does not name this node (aud)", false, list(func(p *Provider) *[]string { return &p.LaunchClients }, wordItem)},
	field[Provider]{"claims", "which of its claims give user, name, role, activities, organisation, person and assurance: {role: nhsid_nrbac_roles.0.person_roles.0.role_code}", true, claimsReader},
	field[Provider]{"roles", "its role codes, and what they are here: {R8000: hospital-doctor}", false, rolesReader},
	field[Provider]{"activities", "its codes for activities, and which national RBAC activity each is: {sensitive-results: B1666}; its codes are taken for those if not given", false, activitiesReader},
	field[Provider]{"role", "of everybody who comes from it, where it gives no roles", false, oneOf(func(p *Provider) *string { return &p.Role }, "a role", Roles)},
	field[Provider]{"organisation", "the ODS code of everybody who comes from it, where it gives none", false, text(func(p *Provider) *string { return &p.Organisation }, odsText)},
	field[Provider]{"assurance", "the values of the assurance claim that are good enough: [P9], [AAL3]; any if not given", false, list(func(p *Provider) *[]string { return &p.Assurance }, wordItem)},
)

var wordItem = text(func(s *string) *string { return s }, anyText)

var claimsReader = words(func(p *Provider) *map[string]string { return &p.Claims }, "something that is wanted of a claim", "what is wanted, and the claim that gives it", claimNames,
	func(d *decoder, n ast.Node, path string) (string, bool) {
		return d.scalar(n, path, "the name of a claim")
	}, schema{"type": "string"})

var rolesReader = words(func(p *Provider) *map[string]string { return &p.Roles }, "", "its role codes, and what they are here", nil,
	func(d *decoder, n ast.Node, path string) (string, bool) {
		s, ok := d.scalar(n, path, "a role")
		return s, ok && d.known(n, path, "a role", s, Roles)
	}, schema{"enum": Roles})

var activitiesReader = words(func(p *Provider) *map[string]string { return &p.Activities }, "", "its codes for activities, and which national RBAC activity each is", nil,
	func(d *decoder, n ast.Node, path string) (string, bool) {
		s, ok := d.scalar(n, path, activityCode.words)
		if ok && !activityCode.expr.MatchString(s) {
			d.problem(n, path, "not "+activityCode.words, correction(activityCode, s))
		}
		return s, ok
	}, schema{"type": "string", "pattern": activityCode.expr.String()})

var clientShape = block("A registered application or system.",
	field[Client]{"id", "its client_id", true, text(func(c *Client) *string { return &c.ID }, idText)},
	field[Client]{"name", "what people call it, when they are asked to let it in", true, text(func(c *Client) *string { return &c.Name }, anyText)},
	field[Client]{"kind", "public (on a device), confidential (with a server and a key) or service (a system: nobody signs in)", true, oneOf(func(c *Client) *ClientKind { return &c.Kind }, "a kind of client", ClientKinds)},
	field[Client]{"redirects", "where its users are sent back to, each exactly", false, list(func(c *Client) *[]string { return &c.Redirects }, wordItem)},
	field[Client]{"launch", "where it is started from here (SMART EHR launch)", false, text(func(c *Client) *string { return &c.Launch }, anyText)},
	field[Client]{"scopes", "the most that it may be given: [openid, fhirUser, launch, patient/*.rs]", true, list(func(c *Client) *[]string { return &c.Scopes }, wordItem)},
	field[Client]{"keys", "where its public keys (a JSON Web Key Set) are: an https address or a file", false, text(func(c *Client) *string { return &c.Keys }, anyText)},
	field[Client]{"role", "of a service: what it may see follows from it", false, oneOf(func(c *Client) *string { return &c.Role }, "a role", Roles)},
	field[Client]{"organisation", "of a service: the ODS code of the organisation for which it acts", false, text(func(c *Client) *string { return &c.Organisation }, odsText)},
	field[Client]{"system", "of a service with the role system: the system whose own record it reads and writes here", false, text(func(c *Client) *string { return &c.System }, idText)},
	field[Client]{"exchanges", "the providers whose ID tokens it may exchange for access", false, list(func(c *Client) *[]string { return &c.Exchanges }, wordItem)},
	field[Client]{"introspects", "whether it may ask what a token is worth: true or false", false, yesNo(func(c *Client) *bool { return &c.Introspects })},
)

var launcherShape = block("A system from which the record is opened in the context of a patient.",
	field[Launcher]{"id", "a short id; a launch names it", true, text(func(l *Launcher) *string { return &l.ID }, idText)},
	field[Launcher]{"name", "what people call it", true, text(func(l *Launcher) *string { return &l.Name }, anyText)},
	field[Launcher]{"organisation", "the ODS code of the organisation whose users it launches", true, text(func(l *Launcher) *string { return &l.Organisation }, odsText)},
	field[Launcher]{"key", "where the key that we share with it is kept: an environment variable or a file with 32 bytes in base64", false, text(func(l *Launcher) *string { return &l.Key }, placeText)},
	field[Launcher]{"keys", "or where its public keys are, if it signs: an https address or a file", false, text(func(l *Launcher) *string { return &l.Keys }, anyText)},
	field[Launcher]{"issuer", "who it says it is, if it signs", false, text(func(l *Launcher) *string { return &l.Issuer }, anyText)},
	field[Launcher]{"fhir", "of one that launches as SMART App Launch says (iss and launch): its FHIR base address", false, text(func(l *Launcher) *string { return &l.FHIR }, anyText)},
	field[Launcher]{"client", "with fhir: what we are called there (client_id)", false, text(func(l *Launcher) *string { return &l.Client }, anyText)},
	field[Launcher]{"users", "its users, and which users of this file they are; without, everybody signs in", false, options(func(l *Launcher) *map[string]string { return &l.Users })},
)

// yesNo reads true or false.
func yesNo[T any](get func(*T) *bool) reader[T] {
	return reader[T]{
		read: func(d *decoder, n ast.Node, path string, to *T) {
			if s, ok := d.scalar(n, path, "true or false"); ok && d.known(n, path, "true or false", s, []string{"true", "false"}) {
				*get(to) = s == "true"
			}
		},
		schema: func() schema { return schema{"type": "boolean"} },
	}
}

// identity checks who may get in.
func (c *checker) identity() {
	id := c.r.Identity
	switch {
	case id.Issuer != "":
		c.secure("identity.issuer", id.Issuer, "others could be this node")
	case len(id.Clients)+len(id.Providers)+len(id.Launchers) > 0:
		c.warn("identity.issuer", "does not say what this node's public address is: the address on which it listens is taken", "Add issuer: https://record.example.nhs.uk")
	}
	for i, p := range id.Providers {
		c.provider(fmt.Sprintf("identity.providers[%d]", i), p)
	}
	for i, cl := range id.Clients {
		c.client(fmt.Sprintf("identity.clients[%d]", i), cl)
	}
	for i, l := range id.Launchers {
		c.launcher(fmt.Sprintf("identity.launchers[%d]", i), l)
	}
}

// secure wants an https address, or one on this machine.
func (c *checker) secure(path, address, danger string) bool {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "":
		c.err(path, "not a web address", "Write it in full, such as https://id.example.nhs.uk")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		c.err(path, "is not over TLS: "+danger, "Write https")
	default:
		return true
	}
	return false
}

// introspected checks a provider that is asked about tokens which say nothing by themselves.
func (c *checker) introspected(path string, p Provider) {
	if p.LaunchScope == "" {
		c.err(path+".launch_introspect", "does not say which scope such a token bears, so any would do", "Add launch_scope")
	}
	if p.Secret == "" && p.Key == "" {
		c.err(path+".launch_introspect", "shares no secret and no key with us: it would tell nothing about a token to just anybody", "Add key or secret")
	}
	others := 0
	for _, o := range c.r.Identity.Providers {
		if o.LaunchIntrospect {
			others++
		}
	}
	if others > 1 {
		c.err(path+".launch_introspect", "more than one provider is asked about tokens, and each would see the others'", "Keep it at the one from which people are launched")
	}
}

func (c *checker) provider(path string, p Provider) {
	c.secure(path+".issuer", p.Issuer, "anybody on the way could sign in as anybody")
	if strings.Contains(p.Issuer, "?") {
		c.err(path+".issuer", "an issuer has no query", "Write it as its discovery document does")
	}
	if p.LaunchIntrospect {
		c.introspected(path, p)
	}
	if p.Secret != "" && p.Key != "" {
		c.err(path+".key", "a secret and a key: it takes one of them", "Keep the key")
	}
	if p.Claims["user"] == "" {
		c.warn(path+".claims", "does not say which claim tells users apart: sub is taken", "Add user: sub")
	}
	if p.Role == "" && p.Claims["role"] == "" {
		c.err(path+".claims", "nobody from there has a role", "Add role: the claim that gives it, and roles: what its codes are here; or role: for everybody")
	}
	if p.Claims["role"] != "" && len(p.Roles) == 0 {
		c.err(path+".roles", "its role codes are not said to be anything here, so nobody gets in", "Add roles: {R8000: hospital-doctor}")
	}
	if p.Organisation != "" {
		c.organisation(path+".organisation", p.Organisation)
	}
	if p.Role == "citizen" && p.Claims["person"] == "" {
		c.err(path+".claims", "a citizen sees one record, and no claim says whose", "Add person: nhs_number")
	}
	if len(p.Activities) > 0 && p.Claims["activities"] == "" {
		c.err(path+".claims", "its activities are said to be something here, and no claim gives them", "Add activities: the claim that gives them")
	}
	if len(p.Assurance) > 0 && p.Claims["assurance"] == "" {
		c.err(path+".claims", "assurance is asked for, and no claim gives it", "Add assurance: acr, or identity_proofing_level")
	}
}

func (c *checker) client(path string, cl Client) {
	for i, r := range cl.Redirects {
		at := fmt.Sprintf("%s.redirects[%d]", path, i)
		u, err := url.Parse(r)
		if err == nil && cl.Kind == PublicClient && u.Scheme != "http" && u.Scheme != "https" && strings.Contains(u.Scheme, ".") && u.Fragment == "" {
			continue // an application's own scheme, named after a domain. RFC 8252 §7.1
		}
		c.secure(at, r, "codes could be read on the way")
	}
	if cl.Launch != "" {
		c.secure(path+".launch", cl.Launch, "launches could be read on the way")
	}
	if _, unknown := scope.Parse(strings.Join(cl.Scopes, " ")); len(unknown) > 0 {
		c.err(path+".scopes", fmt.Sprintf("%q is not a scope", brief(unknown[0])), "Write scopes of SMART App Launch 2, such as patient/Observation.rs")
	}
	switch cl.Kind {
	case ServiceClient:
		if cl.Role == "" || cl.Organisation == "" {
			c.err(path+".role", "a service acts in a role for an organisation", "Add role and organisation")
		}
		c.keeps(path, cl.Role, cl.Organisation, cl.System)
		if len(cl.Redirects) > 0 {
			c.err(path+".redirects", "nobody signs in to a service", "Remove them, or write kind: confidential")
		}
	case PublicClient, ConfidentialClient:
		if len(cl.Redirects) == 0 {
			c.err(path+".redirects", "its users have nowhere to go back to", "Add redirects: [https://app.example/callback]")
		}
		if cl.Role != "" {
			c.err(path+".role", "its users have roles of their own", "Remove role, or write kind: service")
		}
	}
	if cl.Kind != ServiceClient && cl.System != "" {
		c.err(path+".system", "its users have roles of their own", "Remove system, or write kind: service")
	}
	if cl.Kind != PublicClient && cl.Kind != "" && cl.Keys == "" {
		c.err(path+".keys", "proves itself with a key, and nothing says where its public keys are", "Add keys: https://app.example/jwks.json, or a file")
	}
	if strings.HasPrefix(cl.Keys, "http") {
		c.secure(path+".keys", cl.Keys, "anybody on the way could be this client")
	}
	if cl.Organisation != "" {
		c.organisation(path+".organisation", cl.Organisation)
	}
	for i, p := range cl.Exchanges {
		if _, ok := c.r.Provider(p); !ok {
			c.err(fmt.Sprintf("%s.exchanges[%d]", path, i), brief(p)+" is not among the providers", "Add it to providers")
		}
	}
}

func (c *checker) launcher(path string, l Launcher) {
	c.organisation(path+".organisation", l.Organisation)
	switch {
	case l.FHIR != "" && l.Client == "":
		c.err(path+".client", "nothing says what we are called there", "Add client: the client_id under which this node is registered")
	case l.FHIR != "":
		c.secure(path+".fhir", l.FHIR, "anybody on the way could launch")
	case l.Key == "" && l.Keys == "":
		c.err(path+".key", "nothing proves a launch to be its own", "Add key: where the shared key is kept, or keys: where its public keys are")
	case l.Keys != "" && l.Issuer == "":
		c.err(path+".issuer", "signs, and nothing says who it says it is", "Add issuer")
	}
	if strings.HasPrefix(l.Keys, "http") {
		c.secure(path+".keys", l.Keys, "anybody on the way could launch")
	}
	for theirs, ours := range l.Users {
		if !slices.ContainsFunc(c.r.Users, func(u User) bool { return u.ID == ours }) {
			c.err(join(path+".users", brief(theirs)), brief(ours)+" is not among the users", "Add them to users")
		}
	}
}
