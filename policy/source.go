package policy

import "tombolo/region"

// SourceOf is a system as policy sees it, by what has been agreed. One that is not in the agreed file is switched off.
func SourceOf(sys region.System, agreed *region.Region) *Source {
	out := &Source{System: sys.ID, Organisation: sys.Organisation, Release: region.Release{Off: true}, Gives: sys.Gives, Above: agreed.Above(sys.Organisation)}
	if org, ok := agreed.Organisation(sys.Organisation); ok {
		out.Kind = org.Kind
	}
	if now, ok := agreed.System(sys.ID); ok && now.Organisation == sys.Organisation {
		out.Release = now.Release
		out.Summary = now.Options["summary-care-record"] == "yes"
		for _, l := range now.Labels {
			out.Labels |= Label("", l)
		}
	}
	return out
}
