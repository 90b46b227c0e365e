package policy

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/region"
)

// A flow is something of people's data that goes to somebody, and how. What the region file switches on is in one of these, so that an assessment of it leaves nothing out.
type flow struct{ to, what, how string }

// outFlows are all ways in which people's data leave the node, but for those who open a record under an agreement.
func outFlows(r *region.Region) []flow {
	return slices.Concat(asked(r), toldUnasked(r), served(r), signedInBy(r))
}

// asked are those whom the node asks about people: to ask is to tell.
func asked(r *region.Region) []flow {
	var out []flow
	for _, s := range r.Systems {
		var live []string
		for _, h := range headingsOf(s) {
			if s.Gives[h].Asked() {
				live = append(live, string(h))
			}
		}
		if len(live) > 0 {
			out = append(out, flow{name(r, s.Organisation) + ", " + s.ID, "the number by which it knows the person, who asks and what for, when a record is opened", "asked by " + s.Connector + " at " + orDash(s.Address)})
		}
	}
	for _, n := range r.Neighbours {
		if n.OnlyAsks {
			continue
		}
		kept := "shown and not kept"
		if n.Limits.LastGood > 0 {
			kept = "shown, and the last of it kept for " + n.Limits.LastGood.String()
		}
		out = append(out, flow{orID(n.Name, n.ID), "the national number and headings asked for, with who asks and why; what it answers is " + kept, "a " + n.Kind + " node at " + n.Address})
		if n.Index.Address != "" {
			what := "numbers by which the person is known"
			if n.Index.Describes() {
				what += "; name, date of birth, gender, address and telephone number of whoever is known by none of its own, but of nobody whose whereabouts are withheld"
			}
			out = append(out, flow{orID(n.Name, n.ID) + ": its index", what, "asked at " + n.Index.Address})
		}
	}
	for _, n := range r.Locator.National {
		if n.Asks {
			out = append(out, flow{orID(n.Name, n.ID), "the NHS number and the organisation that asks, when a record is opened", "a record locator at " + n.Address})
		}
	}
	return out
}

// toldUnasked are those who are told without asking.
func toldUnasked(r *region.Region) []flow {
	var out []flow
	for _, n := range r.Locator.National {
		for _, p := range n.Publishes {
			what := "that there is a record"
			if p.Type != region.ClinicalSummary {
				what = "that there is something of the type " + p.Type
				if len(p.Headings) > 0 {
					what += " (" + each("heading", p.Headings, named(nil)) + ")"
				}
			}
			out = append(out, flow{orID(n.Name, n.ID), "the NHS number, and " + what + ": of nothing that bears a label, and of nobody whose whereabouts are withheld", "a pointer, registered at " + n.Address + " as " + name(r, n.As)})
		}
	}
	for _, s := range r.Systems {
		for _, at := range s.Notify() {
			out = append(out, flow{name(r, s.Organisation) + ", " + s.ID, "what changed of whose record, as it has subscribed to and may see", "notifications to " + at})
		}
	}
	if rt := r.Locator.Retrieval; rt.Proxy != "" {
		out = append(out, flow{"whoever holds what a pointer leads to", "the pointer's address, and who opens it and for which organisation", "through the proxy " + rt.Proxy})
	}
	for _, host := range r.Locator.Retrieval.Hosts {
		out = append(out, flow{host, "a pointer's address, when somebody opens what it leads to", "asked, or the user's own browser sent there"})
	}
	if r.Audit.Feed != "" {
		out = append(out, flow{"the audit repository", "who looked at whose record, when and why; no clinical content", r.Audit.Feed})
	}
	return out
}

// served are the programs and neighbours that may ask the node, each within what its users or its party to agreements may see.
func served(r *region.Region) []flow {
	var out []flow
	for _, s := range r.Systems {
		if s.Certificate == "" {
			continue
		}
		who := []string{name(r, s.Organisation)}
		for _, o := range s.AsksFor {
			who = append(who, name(r, o))
		}
		out = append(out, flow{strings.Join(who, "; ") + ", " + s.ID, "of each person, what " + roleName(s.Role) + " there may see", "asks by mutual TLS"})
	}
	for _, c := range r.Identity.Clients {
		f := flow{orID(c.Name, c.ID), "what its user may see, within the scopes " + strings.Join(c.Scopes, " "), "an application, for whoever has signed in and let it"}
		switch {
		case c.System != "":
			f.what, f.how = "the record of "+c.System+" alone, which it keeps here", "a system, by its own key"
		case c.Kind == region.ServiceClient:
			f.what, f.how = fmt.Sprintf("what %s of %s may see, within the scopes %s", roleName(c.Role), name(r, c.Organisation), strings.Join(c.Scopes, " ")), "a system, by its own key"
		}
		out = append(out, f)
	}
	for _, a := range r.Locator.Applications {
		if len(a.Consumes) > 0 {
			out = append(out, flow{name(r, a.Organisation) + ", " + a.ID, "pointers that are registered here, of the types " + strings.Join(a.Consumes, ", "), "asks this region's record locator"})
		}
	}
	for _, n := range r.Neighbours {
		if n.Issuer != "" {
			out = append(out, flow{orID(n.Name, n.ID), "of each person, what its users may see as " + name(r, n.Organisation), "a neighbour's node asks for its users, each with a signed statement"})
		}
	}
	return out
}

// signedInBy are those at whom users sign in.
func signedInBy(r *region.Region) []flow {
	var out []flow
	for _, p := range r.Identity.Providers {
		what := "that somebody signs in here; nothing of a patient"
		if p.LaunchIntrospect {
			what += "; the token with which they follow a pointer"
		}
		out = append(out, flow{orID(p.Name, p.ID), what, "an identity provider at " + p.Issuer})
	}
	return out
}

func roleName(role string) string {
	if info, ok := Role(role).Info(); ok {
		return info.Name
	}
	return orDash(role)
}
