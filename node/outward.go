package node

import (
	"context"
	"fmt"
	"slices"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/locator"
	"tombolo/policy"
	"tombolo/region"
)

// national is the client of a locator above the region's.
func (n *Node) national(l region.National) (*nrl.Client, error) {
	c, err := n.asking(l.TLS)
	if err != nil {
		return nil, fmt.Errorf("locator %s: tls: %w", l.ID, err)
	}
	o := nrl.ClientOptions{Name: l.Name, Address: l.Address, As: l.As, HTTP: c}
	if l.Token != "" {
		o.Token = func(context.Context) (string, error) { return n.secretAt(l.Token) }
	}
	client, err := nrl.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("locator %s: %w", l.ID, err)
	}
	return client, nil
}

// locators adds those that are asked who else holds something: our own registry, and the national ones, each with its memory.
func (n *Node) locators(askers map[string]connector.Asker) error {
	l := n.c.Region.Locator
	content, err := n.retriever(l.Retrieval)
	if err != nil {
		return err
	}
	if len(l.Applications) > 0 {
		askers[gather.OwnLocator] = registeredAsker{n, content}
	}
	for _, nat := range l.National {
		client, err := n.national(nat)
		if err != nil {
			return err
		}
		n.nationals = append(n.nationals, national{nat, client})
		if nat.Asks {
			askers[nat.ID] = locator.NewCache(nrl.Asker{Client: client, Types: typeIDs(nat.Types), Ours: locator.Ours(nat.As), Content: content}, nat.Cache, n.c.Now)
		}
	}
	return nil
}

// A national is a locator above the region's, with what speaks to it.
type national struct {
	region.National
	client *nrl.Client
}

// registeredAsker gives what has been registered here as a source among others: what each custodian has agreed to tell whoever asks.
type registeredAsker struct {
	n *Node
	*nrl.Retriever
}

// retriever is what fetches what pointers lead to, as the region file says.
func (n *Node) retriever(r region.Retrieval) (*nrl.Retriever, error) {
	c, err := n.asking(r.TLS)
	if err != nil {
		return nil, fmt.Errorf("locator: retrieval: tls: %w", err)
	}
	o := nrl.RetrieverOptions{Proxy: r.Proxy, ASID: r.ASID, Hosts: r.Hosts, Issuer: n.issuer, HTTP: c, Now: n.c.Now}
	if r.Token != "" {
		o.Token = func(context.Context) (string, error) { return n.secretAt(r.Token) }
	}
	x, err := nrl.NewRetriever(o)
	if err != nil {
		return nil, fmt.Errorf("locator: retrieval: %w", err)
	}
	return x, nil
}

// Ask implements connector.Asker.
func (a registeredAsker) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	x := &registered{a.n}
	i := slices.IndexFunc(q.Identifiers, func(id fhir.Identifier) bool { return id.System == fhir.SystemNHSNumber })
	if i < 0 {
		return nil, fhir.Errorf(fhir.NotFound, "nobody without an NHS number is pointed to")
	}
	nhs := q.Identifiers[i].Value
	person, numbers, err := x.person(ctx, nhs)
	if err != nil {
		return nil, err
	}
	all, err := a.n.pointers(ctx, person, numbers...)
	if err != nil {
		return nil, err
	}
	agreed, _, data := a.n.agreed.InForce()
	purpose, _ := policy.ParsePurpose(q.Requester.Purpose)
	f := policy.Facts{Subject: policy.Subject{Role: policy.Role(q.Requester.Role), Organisation: q.Requester.OrganisationODS, Above: agreed.Above(q.Requester.OrganisationODS)},
		Purpose: purpose, Relationships: []policy.Relationship{policy.SelfClaimed, policy.KnownHere, policy.Self}, Agreements: agreed.Agreements, Believed: policy.BelievedBy(agreed), Data: data, At: a.n.c.Now()}
	if person != nil {
		if f.Person, err = a.n.stands(ctx, person); err != nil {
			return nil, err
		}
	}
	var answers []nrl.Pointer // that the asker may open the record has been decided: what is left is each custodian's to say
	for _, k := range all {
		if mayTell(f, agreed, k) {
			answers = append(answers, underNumber(nrl.Pointer{Resource: policy.Labelled(k.Resource, k.labels)}, nhs))
		}
	}
	return nrl.Answer(answers, nrl.Number(nhs), 0, nil, 0), nil
}
