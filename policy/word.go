package policy

import (
	"fmt"
	"slices"

	"tombolo/fhir"
	"tombolo/region"
)

// Believed are the systems whose word opens what others hold, as the region file names them. Whoever sends may say in a Consent that something shall not be
// shared, and it is not; that somebody acts for a person, or that a person permits what the National Data Opt-Out or another of their choices shuts, is
// believed of these alone. ADR 26
type Believed struct {
	Proxies     []string // policy.proxies: on who acts for a person
	Permissions []string // policy.permissions: on what a person permits of what others hold
}

// BelievedBy are those of a region file.
func BelievedBy(r *region.Region) Believed {
	return Believed{Proxies: r.Policy.Proxies, Permissions: r.Policy.Permissions}
}

// Unheeded says in words of what a Consent says nothing comes, because it would open something and the word of the system that told of it does not count for that;
// "" if all of it is heeded.
func (b Believed) Unheeded(source string, r *fhir.Resource) string {
	var s Standing
	s.Take(source, r)
	switch {
	case len(s.Acting) > 0 && !slices.Contains(b.Proxies, source):
		return source + " says that somebody acts for the person, which lets nobody in: policy.proxies of the region file does not name it"
	case len(s.Choices) > 0 && s.Choices[0].Root.Permit && !slices.Contains(b.Permissions, source):
		return source + " says that the person permits something, which opens nothing that others hold: policy.permissions of the region file does not name it"
	}
	return ""
}

// Believing tells in words what opens and closes because a changed file believes others than it did.
func Believing(was, is *region.Region) []string {
	var out []string
	say := named([]*region.Region{is, was})
	for _, of := range []struct {
		what        string
		before, now []string
	}{
		{"those of whom %s says that they act for a person see what that person sees, within what their age leaves", was.Policy.Proxies, is.Policy.Proxies},
		{"what %s says that a person permits counts for what others hold, and for research against the National Data Opt-Out", was.Policy.Permissions, is.Policy.Permissions},
	} {
		told := func(verb string, in, other []string) {
			for _, id := range in {
				if !slices.Contains(other, id) {
					out = append(out, verb+": "+fmt.Sprintf(of.what, say("system", id)))
				}
			}
		}
		told("closes", of.before, of.now)
		told("opens", of.now, of.before)
	}
	return out
}

// vouched reports whether somebody's acting for the person was told of by a system whose word counts for it.
func (f *Facts) vouched(x *Proxyhood) bool {
	return x.Source != "" && slices.Contains(f.Believed.Proxies, x.Source)
}

// heeds reports whether a permission counts for what others hold.
func (f *Facts) heeds(c *Choice) bool {
	return c.Source != "" && slices.Contains(f.Believed.Permissions, c.Source)
}

// outweighs reports whether one choice's permission stands against being confined by another: told of by the same system, which may take back what it said; about what
// the permission's own system holds; or by a system whose word counts for what others hold.
func (f *Facts) outweighs(permission, confinement *Choice) bool {
	return permission.Source == confinement.Source || f.Source != nil && permission.Source == f.Source.System || f.heeds(permission)
}

// confined is what choices say together of which some permit and others confine to something else.
func (cs Choices) confined(f *Facts) answer {
	for i := range cs {
		if cs[i].answer(f) != confines {
			continue
		}
		if !slices.ContainsFunc(cs, func(c Choice) bool { return c.answer(f) == permits && f.outweighs(&c, &cs[i]) }) {
			if f.Source == nil { // the permission may turn out to be its own system's
				return depends
			}
			return confines
		}
	}
	return permits
}
