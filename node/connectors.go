package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"tombolo/connector"
	"tombolo/connector/document"
	"tombolo/connector/extract"
	"tombolo/connector/fhirapi"
	"tombolo/connector/gpconnect"
	"tombolo/connector/hl7v2"
	"tombolo/connector/neighbour"
	"tombolo/connector/pixm"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/locator"
	"tombolo/region"
)

// A runner is a feed with the name of its source.
type runner struct {
	source string
	connector.Runner
}

// kinds is every kind of connector there is. To add one: its folder, and a line here.
var kinds = map[string]func(n *Node, s region.System) (connector.Runner, connector.Asker, error){
	"hl7v2":         newHL7,
	"gpconnect":     newGPConnect,
	"fhirapi":       newFHIR,
	"extract":       newExtract,
	"document":      newDocument,
	region.Consumer: func(*Node, region.System) (connector.Runner, connector.Asker, error) { return nil, nil, nil },
	"api":           newAPI,
	"pds":           newPDS,
}

// newAPI is a system that writes to this node's own FHIR API: it connects to us, and is asked nothing.
func newAPI(*Node, region.System) (connector.Runner, connector.Asker, error) { return nil, nil, nil }

// connect makes each system's connector and each neighbour's.
func (n *Node) connect() (map[string]connector.Asker, error) {
	askers := map[string]connector.Asker{}
	for _, s := range n.c.Region.Systems {
		make, ok := kinds[s.Connector]
		if !ok {
			return nil, fhir.Errorf(fhir.NotSupported, "system %s: there is no connector %q", s.ID, s.Connector)
		}
		r, a, err := make(n, s)
		if err != nil {
			return nil, err
		}
		if r != nil {
			n.runners = append(n.runners, runner{s.ID, r})
		}
		if a != nil {
			askers[s.ID] = a
		}
	}
	for _, nb := range n.c.Region.Neighbours {
		if nb.OnlyAsks {
			continue
		}
		a, err := n.neighbour(nb)
		if err != nil {
			return nil, fmt.Errorf("neighbour %s: %w", nb.ID, err)
		}
		askers[nb.ID] = a
		if nb.Index.Address != "" {
			if askers[gather.IndexOf(nb.ID)], err = n.index(nb); err != nil {
				return nil, fmt.Errorf("neighbour %s: index: %w", nb.ID, err)
			}
		}
	}
	return askers, n.locators(askers)
}

// neighbour is how another region's record is asked.
func (n *Node) neighbour(nb region.Neighbour) (connector.Asker, error) {
	c, err := n.asking(nb.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	token := n.c.Secret(nb.Token)
	if nb.Kind == region.KindTombolo {
		return neighbour.New(neighbour.Options{Source: nb.ID, Address: nb.Address, Token: token, Assert: n.asserting(nb), HTTP: c, MaxBytes: nb.Limits.Bytes})
	}
	if nb.Kind == region.KindXCA { // the seam: a connector.Asker for documents and a connector.Fetcher for their content
		return nil, fhir.Errorf(fhir.NotSupported, "XCA gateways are not spoken to yet: docs/federation.md says how they would be")
	}
	o := fhirapi.Options{Source: nb.ID, Address: nb.Address, HTTP: c, Now: n.c.Now, MaxBytes: nb.Limits.Bytes, MaxPages: nb.Limits.Pages}
	if o.Token = n.bearer(nb, c); nb.Assertion.As == region.ByHeader {
		o.Statement, o.Header = n.asserting(nb), nb.Assertion.Header
	}
	switch nb.Kind {
	case "mhd":
		return fhirapi.NewDocuments(o)
	case "ips":
		return fhirapi.NewSummaries(o)
	}
	return fhirapi.New(o)
}

// bearer is by what bearer token a neighbour that is no Tombolo is asked: the user's signed statement, a token that it gives for one, or the node's own; nil for none.
func (n *Node) bearer(nb region.Neighbour, c *http.Client) func(context.Context, connector.Requester) (string, error) {
	switch nb.Assertion.As {
	case region.ByBearer:
		return n.asserting(nb)
	case region.ByExchange:
		return (&fhirapi.Exchange{Address: nb.Assertion.Token, Scope: nb.Assertion.Scope, Statement: n.asserting(nb), HTTP: c, Now: n.c.Now}).Token
	}
	token := n.c.Secret(nb.Token)
	if token == "" {
		return nil
	}
	return func(context.Context, connector.Requester) (string, error) { return token, nil }
}

// index is how a neighbour is asked who somebody is there, with a memory of what it said.
func (n *Node) index(nb region.Neighbour) (connector.Asker, error) {
	c, err := n.asking(nb.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	o := pixm.Options{Source: gather.IndexOf(nb.ID), Address: nb.Index.Address, Ways: nb.Index.Asks, Get: nb.Index.Get, HTTP: c, MaxBytes: nb.Index.Limits.Bytes}
	if o.Token = n.bearer(nb, c); nb.Kind == region.KindTombolo {
		if assert := n.asserting(nb); assert != nil {
			o.Token = assert
		}
	}
	x, err := pixm.New(o)
	if err != nil {
		return nil, err
	}
	return locator.NewCache(x, nb.Index.Cache, n.c.Now).ForEach(), nil
}

// client is the HTTP client of one source: its own connections, so that one slow source holds up no other.
func (n *Node) client() *http.Client { return n.through(transport()) }

// through is the client that asks over a transport.
func (n *Node) through(t *http.Transport) *http.Client {
	if n.watch != nil {
		return &http.Client{Transport: n.watch.Outward(t)}
	}
	return &http.Client{Transport: t}
}

// transport is how others are reached: at the addresses that the region file gives, through no proxy.
func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 32, 8, 30*time.Second
	t.Proxy, t.DialContext = nil, dial
	return t
}

// path resolves a path in the region file.
func (n *Node) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(n.c.Folder, p)
}

// option is a setting of a system; one that starts with "env:" is read from the environment, so that no secret need stand in the file.
func (n *Node) option(s region.System, name string) string {
	v := s.Options[name]
	if len(v) > 4 && v[:4] == "env:" {
		return n.c.Secret(v[4:])
	}
	return v
}

// HL7Options are the settings of an hl7v2 system: those of the region file, and the feed's dialect. Paths start at folder.
func HL7Options(s region.System, folder string) (hl7v2.Options, error) {
	o := hl7v2.Options{Source: s.ID, Organisation: s.Organisation, Listen: s.Listen}
	if err := o.Set(s.Options); err != nil {
		return o, fmt.Errorf("system %s: %w", s.ID, err)
	}
	var err error
	if o.Mapping, err = hl7v2.LoadMapping(s.Mapping, folder); err != nil {
		return o, fmt.Errorf("system %s: %w", s.ID, err)
	}
	if o.MappingFile = s.Mapping; o.MappingFile != "" && !filepath.IsAbs(o.MappingFile) {
		o.MappingFile = filepath.Join(folder, o.MappingFile)
	}
	return o, nil
}

func newHL7(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	o, err := HL7Options(s, n.c.Folder)
	if err != nil {
		return nil, nil, err
	}
	o.Logger, o.Now = n.c.Logger, n.c.Now
	if n.watch != nil {
		o.Saw = n.watch.Exchange
		o.Sends = n.watch.Tells(s.ID)
	}
	if o.Directory, err = n.directoryOf(s); err != nil {
		return nil, nil, err
	}
	o.Wire.Folder, o.Wire.Address = n.c.Folder, s.Address
	if o.Outward.Address != "" {
		b, err := hl7v2.NewOutbound(o)
		if err != nil {
			return nil, nil, err
		}
		n.senders[s.ID] = &outbound{n, s, b}
		n.closers = append(n.closers, b.Close)
	}
	if !n.c.Feeds {
		return nil, nil, nil // it would take the port
	}
	r, err := hl7v2.New(o)
	if err != nil {
		return nil, nil, err
	}
	n.closers = append(n.closers, r.Close)
	return r, nil, nil
}

func newGPConnect(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	c, err := n.asking(s.TLS)
	if err != nil {
		return nil, nil, fmt.Errorf("system %s: tls: %w", s.ID, err)
	}
	o := gpconnect.Options{Source: s.ID, Address: s.Address, ASID: cmp.Or(n.option(s, "our-asid"), "999000000000"), ToASID: s.ASID,
		HTML: n.option(s, "html"), Documents: n.option(s, "documents"), Appointments: n.option(s, "appointments"), Proxy: n.option(s, "proxy"),
		NodeName: n.c.Region.ID, Version: n.c.Version, HTTP: c, Now: n.c.Now, MaxBytes: s.Limits.Bytes}
	if sds := n.option(s, "sds"); sds != "" {
		d, err := n.directory(sds, n.option(s, "sds-key"))
		if err != nil {
			return nil, nil, fmt.Errorf("system %s: %w", s.ID, err)
		}
		o.Where = d.For(s.Organisation)
	}
	a, err := gpconnect.New(o)
	return nil, a, err
}

// directory is the Spine directory at an address, one for all practices that are looked up in it.
func (n *Node) directory(address, key string) (*gpconnect.Directory, error) {
	if d := n.directories[address]; d != nil {
		return d, nil
	}
	d, err := gpconnect.NewDirectory(gpconnect.DirectoryOptions{Address: address, APIKey: key, HTTP: n.client(), Now: n.c.Now})
	if err == nil {
		n.directories[address] = d
	}
	return d, err
}

func newFHIR(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	c, err := n.asking(s.TLS)
	if err != nil {
		return nil, nil, fmt.Errorf("system %s: tls: %w", s.ID, err)
	}
	o := fhirapi.Options{Source: s.ID, Address: s.Address, HTTP: c, Now: n.c.Now, MaxBytes: s.Limits.Bytes, MaxPages: s.Limits.Pages}
	if token := n.option(s, "token"); token != "" {
		o.Token = func(context.Context, connector.Requester) (string, error) { return token, nil }
	}
	a, err := fhirapi.New(o)
	return nil, a, err
}

func newExtract(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	m, err := extract.Load(s.Mapping, n.c.Folder)
	if err != nil {
		return nil, nil, fmt.Errorf("system %s: %w", s.ID, err)
	}
	o := extract.Options{Source: s.ID, Mapping: m, Drop: n.path(s.Drop), Listen: s.Listen, Token: n.option(s, "token"), Now: n.c.Now, Logger: n.c.Logger, Around: n.answers}
	if o.Poll, err = n.duration(s, "poll"); err != nil || !n.c.Feeds {
		return nil, nil, err
	}
	r, err := extract.New(o)
	if err != nil {
		return nil, nil, err
	}
	n.closers = append(n.closers, r.Close)
	return r, nil, nil
}

// duration reads a setting such as "poll: 10s"; 0 if it is not given.
func (n *Node) duration(s region.System, name string) (time.Duration, error) {
	v := n.option(s, name)
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fhir.Errorf(fhir.ValueError, "system %s: options: %s: write a duration such as 10s or 5m", s.ID, name)
	}
	return d, nil
}

func newDocument(n *Node, s region.System) (connector.Runner, connector.Asker, error) {
	r, err := document.New(document.Options{Source: s.ID, Listen: s.Listen, Token: n.option(s, "token"), Now: n.c.Now, Log: n.c.Logger, Around: n.answers})
	return r, nil, err
}
