package region

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Check tells everything in which the parts of a region disagree, today, in the order of the file. Parse has done it already; Check is
// for a region that was made or changed in code, or that has grown older.
func Check(r *Region) []Problem { return CheckAt(r, time.Now()) }

// CheckAt is Check on another day: agreements begin and end.
func CheckAt(r *Region, at time.Time) []Problem {
	c := &checker{r: r, at: at, ods: map[string]bool{}}
	for _, o := range r.Organisations {
		c.ods[o.ODS] = true
	}
	c.unique()
	c.audit()
	c.identity()
	c.locator()
	c.probing()
	c.explains()
	c.believed()
	if g := c.r.GPConnect; g.Organisation != "" {
		c.organisation("gpconnect.organisation", g.Organisation)
		c.address("gpconnect.address", g.Address)
	}
	for i, o := range r.Organisations {
		if at := fmt.Sprintf("organisations[%d].succeeded_by", i); o.SucceededBy != "" && c.organisation(at, o.SucceededBy) && (o.SucceededBy == o.ODS || slices.Contains(r.Above(o.SucceededBy), o.ODS)) {
			c.err(at, fmt.Sprintf("%s would be succeeded by itself", o.ODS), "Name the body that took over, or leave succeeded_by out while it goes on")
		}
		if at := fmt.Sprintf("organisations[%d].part_of", i); o.PartOf != "" && c.organisation(at, o.PartOf) && (o.PartOf == o.ODS || slices.Contains(r.Above(o.PartOf), o.ODS)) {
			c.err(at, o.ODS+" is part of itself", "An organisation is part of a larger one, as ODS says")
		}
	}
	for i, s := range r.Systems {
		c.system(fmt.Sprintf("systems[%d]", i), s)
	}
	for i, a := range r.Agreements {
		c.agreement(fmt.Sprintf("agreements[%d]", i), a)
	}
	for i, n := range r.Neighbours {
		c.neighbour(fmt.Sprintf("neighbours[%d]", i), n)
	}
	for i, u := range r.Users {
		c.user(fmt.Sprintf("users[%d]", i), u)
	}
	return inOrder(c.problems)
}

type checker struct {
	r        *Region
	at       time.Time
	ods      map[string]bool
	problems []Problem
}

func (c *checker) add(s Severity, path, message, fix string) {
	at := c.r.places[path]
	for parent := path; at.line == 0 && parent != ""; { // a key that is not there: where its block begins
		i := strings.LastIndexAny(parent, ".[")
		parent = parent[:max(i, 0)]
		at = c.r.places[parent]
	}
	c.problems = append(c.problems, Problem{s, c.r.file, at.line, at.column, path, message, fix})
}

func (c *checker) err(path, message, fix string)  { c.add(Error, path, message, fix) }
func (c *checker) warn(path, message, fix string) { c.add(Warning, path, message, fix) }

// unique tells of names that stand twice.
func (c *checker) unique() {
	const secret = "this sign-in token" // is not repeated, not even as a hash
	seen := map[string]string{}
	once := func(what, value, path string) {
		if value == "" {
			return
		}
		k := what + " " + value
		if first, ok := seen[k]; ok {
			if what == secret {
				value = ""
			}
			c.err(path, fmt.Sprintf("%s stands twice: first at %s", strings.TrimSpace(what+" "+value), c.where(first)), "Give each its own, or remove one")
			return
		}
		seen[k] = path
	}
	for i, o := range c.r.Organisations {
		once("organisation", o.ODS, fmt.Sprintf("organisations[%d].ods", i))
	}
	for i, s := range c.r.Systems {
		at := fmt.Sprintf("systems[%d]", i)
		once("id", s.ID, at+".id")
		if s.ID == own {
			c.err(at+".id", "tombolo is what this node calls what its own people decide, and no system's id", "Give the system another id")
		}
		if host, port, err := net.SplitHostPort(s.Listen); err == nil && port != "0" {
			once("address to listen on,", net.JoinHostPort(host, port), at+".listen")
		}
		once("certificate", strings.ToLower(s.Certificate), at+".certificate")
		once("drop folder", strings.TrimRight(s.Drop, "/"), at+".drop")
	}
	for i, n := range c.r.Neighbours { // shares the systems' names: both are shown as sources
		once("id", n.ID, fmt.Sprintf("neighbours[%d].id", i))
		once("certificate", strings.ToLower(n.Certificate), fmt.Sprintf("neighbours[%d].certificate", i))
	}
	for i, n := range c.r.Locator.National { // and these
		once("id", n.ID, fmt.Sprintf("locator.national[%d].id", i))
	}
	for i, p := range c.r.Identity.Providers {
		once("provider", p.ID, fmt.Sprintf("identity.providers[%d].id", i))
	}
	for i, cl := range c.r.Identity.Clients {
		once("client", cl.ID, fmt.Sprintf("identity.clients[%d].id", i))
	}
	for i, l := range c.r.Identity.Launchers {
		once("launcher", l.ID, fmt.Sprintf("identity.launchers[%d].id", i))
	}
	for i, a := range c.r.Agreements {
		once("agreement", a.ID, fmt.Sprintf("agreements[%d].id", i))
	}
	for i, u := range c.r.Users {
		once("user", u.ID, fmt.Sprintf("users[%d].id", i))
		once(secret, u.TokenSHA256, fmt.Sprintf("users[%d].token_sha256", i))
	}
}

func (c *checker) where(path string) string {
	if at := c.r.places[path]; at.line > 0 {
		return fmt.Sprintf("line %d", at.line)
	}
	return path
}

// organisation tells of an ODS code that is no organisation of the region.
func (c *checker) organisation(path, ods string) bool {
	if ods == "" || c.ods[ods] {
		return c.ods[ods]
	}
	for known := range c.ods {
		if strings.EqualFold(known, ods) { // the code where it is given is told of as misspelt
			return true
		}
	}
	fix := "Add it to organisations"
	if near := fhir.Nearest(ods, slices.Sorted(maps.Keys(c.ods))); near != "" {
		fix = "Did you mean " + near + "? Otherwise add it to organisations"
	}
	c.err(path, ods+" is not among the organisations", fix)
	return false
}

func (c *checker) system(path string, s System) {
	known := c.organisation(path+".organisation", s.Organisation)
	c.release(path, s)
	if kind, ok := Connector(s.Connector); ok {
		c.connector(path, s, kind)
	}
	c.listen(path+".listen", s)
	if s.Connector == "hl7v2" {
		c.mllp(path, s)
	} else {
		c.address(path+".address", s.Address)
	}
	c.asks(path, s)
	switch {
	case s.Connector == Consumer:
		if len(s.Gives) > 0 {
			c.err(path+".gives", "a consumer gives nothing: it only asks", "Remove gives, or write the connector by which it gives")
		}
		return
	case s.Gives == nil:
		c.err(path+".gives", "gives is missing", "List what it gives: gives: {allergies: live}. A system that only asks is a connector: consumer")
	case len(s.Gives) == 0:
		c.warn(path+".gives", s.ID+" gives no heading, so nothing of it is ever shown", "List what it gives: gives: {allergies: live}")
	}
	if known && !s.Release.Off {
		c.shared(path, s)
	}
}

func (c *checker) connector(path string, s System, kind ConnectorKind) {
	for _, group := range kind.Needs {
		if !slices.ContainsFunc(group, func(k string) bool { return s.key(k) != "" }) {
			c.err(path+"."+group[0], fmt.Sprintf("connector %s needs %s", kind.Name, strings.Join(group, " or ")), kind.Fix)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(s.Gives)) {
		if kind.Name == Consumer {
			break // told once, of all of them
		}
		switch at := path + ".gives." + string(h); {
		case s.Gives[h].Asked() && !kind.Asked:
			c.err(at, fmt.Sprintf("%s cannot be given live: a system that speaks %s sends, and cannot be asked", h, kind.Name), fmt.Sprintf("Write %s: push", h))
		case s.Gives[h].Sends() && !kind.Pushes:
			c.warn(at, fmt.Sprintf("%s will not arrive by itself: a system that speaks %s is asked, and sends nothing", h, kind.Name),
				fmt.Sprintf("Write %s: live, unless it is brought in by tombolo import", h))
		}
	}
}

func (c *checker) listen(path string, s System) {
	if s.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(s.Listen)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || n < 0 || n > 65535 {
		c.err(path, "not an address to listen on", "Write host:port, such as 127.0.0.1:2575")
		return
	}
	if s.Connector == "hl7v2" {
		if !loopback(host) && s.Options["tls-client-ca"] == "" && s.Options["insecure"] != "acknowledged" {
			c.err(path, "can be reached from elsewhere, and without mutual TLS anybody there may send and read",
				"Listen on 127.0.0.1 behind a TLS tunnel, or set options: {tls-cert: FILE, tls-key: FILE, tls-client-ca: FILE}, or insecure: acknowledged")
		}
		return
	}
	if !loopback(host) && s.Options["tls-cert"] == "" {
		who := host
		if who == "" {
			who = "every network interface"
		}
		c.warn(path, fmt.Sprintf("listens on %s without TLS: patients' data crosses the network in clear, and anybody there may send", who),
			"Listen on 127.0.0.1 behind a TLS tunnel, or set options: {tls-cert: FILE, tls-key: FILE}")
	}
}

// mllp checks where a feed connects to that does not listen.
func (c *checker) mllp(path string, s System) {
	if s.Address == "" {
		return
	}
	u, err := url.Parse(s.Address)
	switch {
	case err != nil || u.Scheme != "mllp" && u.Scheme != "mllps" || u.Port() == "" || strings.Trim(u.Path, "/") != "":
		c.err(path+".address", "not an address of MLLP", "Write mllp://host:port, or mllps://host:port over TLS")
	case s.Listen != "":
		c.err(path+".address", "a feed either listens or connects", "Remove address, or listen")
	case u.Scheme == "mllp" && !loopback(u.Hostname()) && s.Options["insecure"] != "acknowledged":
		c.err(path+".address", "patients' data would cross the network in clear", "Write mllps://, or options: {insecure: acknowledged}")
	}
}

func (c *checker) address(path, address string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		c.err(path, "not a web address", "Write it in full, such as https://host:port/fhir")
	case u.User != nil:
		c.err(path, "holds a user name or password", "Take it out of the address: keep the credential in a file or environment variable")
	case u.RawQuery != "" || u.Fragment != "":
		c.err(path, "has something after the path", "Give the base address only, without ? or #")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		c.warn(path, "is asked without TLS: patients' data crosses the network in clear", "Use https")
	}
}

// asks checks what a system may ask of us, and the certificates for asking it.
func (c *checker) asks(path string, s System) {
	switch {
	case s.Certificate != "" && s.Role == "":
		c.err(path+".role", s.ID+" may ask by its certificate, and nothing says as what", "Add role: the role in which its users act here, such as hospital-doctor")
	case s.Certificate == "":
		for key, given := range map[string]bool{"role": s.Role != "", "asks_for": len(s.AsksFor) > 0, "issuer": s.Issuer != ""} {
			if given {
				c.err(path+"."+key, key+" is of systems that ask, and "+s.ID+" has no certificate", "Add certificate: the name in its client certificate, or remove "+key)
			}
		}
	}
	c.fingerprint(path+".certificate", s.Certificate)
	for i, ods := range s.AsksFor {
		c.organisation(fmt.Sprintf("%s.asks_for[%d]", path, i), ods)
	}
	if kind, ok := Connector(s.Connector); ok && s.TLS != (TLS{}) && !kind.Asked {
		c.err(path+".tls", "tls is for asking a system, and a system that speaks "+kind.Name+" sends", "Remove tls; what a listener needs stands in options")
		return
	}
	c.tls(path, s.Address, s.TLS)
	c.address(path+".options.sds", s.Options["sds"])
	c.notify(path+".options.notify", s)
}

// fingerprint checks a certificate that is named by its own fingerprint or that of its key.
func (c *checker) fingerprint(path, certificate string) {
	kind, print, ok := strings.Cut(certificate, ":")
	if !ok || !strings.EqualFold(kind, "sha256") && !strings.EqualFold(kind, "spki") {
		return
	}
	if sum, err := hex.DecodeString(strings.ReplaceAll(print, ":", "")); err != nil || len(sum) != 32 {
		c.err(path, "not a fingerprint: SHA-256 has 64 digits and letters a to f", "Write what openssl x509 -noout -fingerprint -sha256 prints, after sha256:")
	}
}

// notify checks where a system may have notifications sent.
func (c *checker) notify(path string, s System) {
	for _, to := range s.Notify() {
		u, err := url.Parse(to)
		if err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())) {
			continue
		}
		c.err(path, "not an address to which notifications may go", "Write https://host/path, several with spaces between; what is below one of them is allowed too")
	}
	if len(s.Notify()) > 0 && s.Connector != "api" {
		c.err(path, "only a system that keeps its record here over the FHIR API (connector: api) has subscriptions", "Remove notify")
	}
}

// tls checks the certificates for asking somebody.
func (c *checker) tls(path, address string, t TLS) {
	switch {
	case t == TLS{}:
	case (t.Certificate == "") != (t.Key == ""):
		c.err(path+".tls", "a certificate is of no use without its key, nor a key without its certificate", "Give both, or neither")
	case t.CRL != "" && t.CA == "":
		c.err(path+".tls.crl", "revocation lists need the authorities that signed them", "Add ca: their certificates, a PEM file")
	case address != "" && !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, SyslogTLS):
		c.err(path+".tls", "certificates are of no use over an address that is not https", "Write https://, or remove tls")
	}
}

// audit checks what the file says of the audit log.
func (c *checker) audit() {
	a := c.r.Audit
	address, syslog := strings.CutPrefix(a.Feed, SyslogTLS)
	if _, port, err := net.SplitHostPort(address); syslog && (err != nil || port == "") {
		c.err("audit.feed", "not an address of syslog over TLS", "Write "+SyslogTLS+"host:6514")
	}
	switch {
	case syslog && a.Token != "":
		c.err("audit.token", "syslog takes no token", "Remove token: a repository knows us by certificate and key")
	case !syslog && strings.HasPrefix(a.Feed, "syslog"):
		c.err("audit.feed", "patients' data would cross the network in clear", "Write "+SyslogTLS+"host:6514")
	case !syslog:
		c.address("audit.feed", a.Feed)
	}
	c.tls("audit", a.Feed, a.TLS)
	if a.Feed == "" && a.Token != "" {
		c.err("audit.token", "is a credential for no audit repository", "Give feed, its address, or remove token")
	}
	if a.Feed == "" && a.TLS != (TLS{}) {
		c.err("audit.tls", "are certificates for no audit repository", "Give feed, its address, or remove tls")
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isParty reports whether an organisation, or a body that it is part of, is among an agreement's parties.
func (c *checker) isParty(a Agreement, ods string) bool {
	return slices.Contains(a.Parties, ods) || slices.ContainsFunc(c.r.Above(ods), func(up string) bool { return slices.Contains(a.Parties, up) })
}

// shared tells when nobody else may ever see what a system gives.
func (c *checker) shared(path string, s System) {
	covered := map[dataset.Heading]bool{}
	party := false
	for _, a := range c.r.Agreements {
		if len(a.Parties) < 2 || !c.isParty(a, s.Organisation) || !a.Until.IsZero() && !c.at.Before(a.Until) {
			continue
		}
		party = true
		for h := range s.Gives {
			covered[h] = covered[h] || a.AllHeadings || slices.Contains(a.Headings, h)
		}
	}
	if !party {
		c.warn(path+".organisation", fmt.Sprintf("%s is party to no agreement in force, so what %s gives can be shown to nobody else", s.Organisation, s.ID),
			"Add "+s.Organisation+" to an agreement's parties, or set release: off")
		return
	}
	for _, h := range slices.Sorted(maps.Keys(covered)) {
		if !covered[h] {
			c.warn(path+".gives."+string(h), fmt.Sprintf("no agreement of %s covers %s, so it can be shown to nobody else", s.Organisation, h),
				"Add it to an agreement's headings, or take it out here")
		}
	}
}

func (c *checker) agreement(path string, a Agreement) {
	seen := map[string]bool{}
	for i, ods := range a.Parties {
		at := fmt.Sprintf("%s.parties[%d]", path, i)
		if seen[ods] {
			c.warn(at, ods+" stands twice", "Remove one")
		}
		seen[ods] = true
		c.organisation(at, ods)
	}
	if len(seen) < 2 {
		c.warn(path+".parties", "an agreement of fewer than two parties shares nothing", "Name everybody who shares with each other")
	}
	if len(a.Purposes) == 0 {
		c.warn(path+".purposes", "an agreement without a purpose allows nothing", "Write purposes: [direct-care]")
	}
	if !a.AllHeadings && len(a.Headings) == 0 {
		c.warn(path+".headings", "an agreement without headings shares nothing", "Write headings: all, or list them")
	}
	switch {
	case a.Until.IsZero():
	case !a.From.Before(a.Until):
		c.err(path+".until", "ends before it begins", "Exchange from and until")
		return
	case !c.at.Before(a.Until):
		c.warn(path+".until", fmt.Sprintf("agreement %s ended on %s: nothing is shared under it", a.ID, a.Until.AddDate(0, 0, -1).Format("2 January 2006")),
			"Renew it, or remove it")
	}
	if c.at.Before(a.From) {
		c.warn(path+".from", fmt.Sprintf("agreement %s begins on %s: nothing is shared under it before", a.ID, a.From.Format("2 January 2006")), "")
	}
}

func (c *checker) neighbour(path string, n Neighbour) {
	if n.Kind == KindXCA {
		c.err(path+".kind", n.ID+" is an XCA gateway, and this program does not speak XCA yet (docs/federation.md has the design)", "Ask whether it also serves IHE MHD, and write kind: mhd; or leave it out")
	}
	c.address(path+".address", n.Address)
	switch {
	case n.Keys == "" && n.OnlyAsks:
		c.err(path+".keys", n.ID+" only asks, and nothing says by which keys it signs", "Add keys: "+strings.TrimRight(n.Address, "/")+"/oauth/keys")
	case n.Keys != "" && (n.Issuer == "" || n.Organisation == ""):
		c.err(path+".issuer", n.ID+" may ask us, and nothing says who it says it is or for whom it acts", "Add issuer, its identity.issuer, and organisation, its party to our agreements")
	}
	if strings.HasPrefix(n.Keys, "http") {
		c.secure(path+".keys", n.Keys, "anybody on the way could ask as any of its users")
	}
	if n.Certificate != "" && n.Keys == "" {
		c.err(path+".certificate", n.ID+" is known by its certificate, and nothing says by which keys it signs for its users", "Add keys, or remove certificate: what we show to it stands in tls")
	}
	c.fingerprint(path+".certificate", n.Certificate)
	if n.Organisation != "" {
		c.organisation(path+".organisation", n.Organisation)
	} else if n.Kind != KindTombolo {
		c.err(path+".organisation", n.ID+" does not decide who may see what it gives, and nothing says under which agreement it gives it", "Add organisation: the ODS code as which it is party to an agreement")
	}
	if n.Kind != KindTombolo && n.Keys != "" {
		c.err(path+".keys", "only another Tombolo signs for its users", "Remove keys, or write kind: tombolo")
	}
	if n.Index.Address != "" {
		c.address(path+".index.address", n.Index.Address)
		if n.OnlyAsks {
			c.warn(path+".index", n.ID+" is not asked, and so neither is its index", "Remove index, or only-asks")
		}
	}
	c.tls(path, n.Address, n.TLS)
	c.assertion(path, n)
	if n.Token == "" && n.Keys == "" && n.TLS.Certificate == "" && n.Assertion.As == "" {
		c.warn(path+".token", n.ID+" is asked without a credential", "Write token: the environment variable or file that holds it")
	}
}

// keeps checks which system a user or a service of the role system is.
func (c *checker) keeps(path, role, organisation, system string) {
	s, ok := c.r.System(system)
	switch {
	case role != "system" && system != "":
		c.err(path+".system", "only the role system keeps a system's record", "Remove system, or write role: system")
	case role != "system":
	case system == "":
		c.err(path+".system", "a system reads and writes its own record, and this does not say which system it is", "Add system: the id of one under systems")
	case !ok:
		c.err(path+".system", system+" is not among the systems", "Add it to systems")
	case organisation != "" && s.Organisation != organisation:
		c.err(path+".organisation", system+" belongs to "+s.Organisation, "Write organisation: "+s.Organisation)
	}
}

func (c *checker) user(path string, u User) {
	if u.TokenSHA256 == "" {
		c.warn(path, u.ID+" has no token_sha256, so they act in developer mode only (serve --dev)", "Write token_sha256: what printf %s TOKEN | sha256sum prints")
	}
	switch {
	case u.Role == "": // told already
	case u.Role == "citizen" && u.PersonRef == "":
		c.err(path+".person", "a citizen sees one record, and this does not say whose", "Add person: whose record is theirs")
	case u.Role != "citizen" && u.Organisation == "":
		c.err(path+".organisation", "a "+u.Role+" acts for an organisation, and none is given", "Add organisation: its ODS code")
	case u.Role != "citizen" && u.PersonRef != "":
		c.err(path+".person", "only a citizen has a record of their own here", "Remove person, or write role: citizen")
	}
	c.keeps(path, u.Role, u.Organisation, u.System)
	if u.Organisation != "" {
		c.organisation(path+".organisation", u.Organisation)
	}
}
