package policy

import "tombolo/region"

// SourceOf is a system as policy sees it, by what has been agreed. One that is not in the agreed file is switched off.
func SourceOf(sys region.System, agreed *region.Region) *Source {
	out := &Source{System: sys.ID, Organisation: sys.Organisation, Release: region.Release{Off: true}, Gives: sys.Gives, Above: agreed.Above(sys.Organisation)}
	if org, ok := agreed.Organisation(sys.Organisation); ok {
		out.Kind = org.Kind
	}
	if now, ok := agreed.System(sys.ID); ok && now.Organisation == sys.Organisation {
		if out.Release = now.Release; out.Divided() {
			out.Within = func(ods string) ([]string, bool) {
				_, known := agreed.Organisation(ods)
				return agreed.Above(ods), known
			}
		}
		out.Summary = now.Options["summary-care-record"] == "yes"
		out.Labels = LabelsOfSystem(now)
	}
	return out
}

// SourceOfNeighbour is a neighbour as policy sees it: a source of the party to our agreements that it is. nil for one that is party to none and decides
// by itself, as another Tombolo does: its answer is then held to everything but agreement and release.
func SourceOfNeighbour(n region.Neighbour, agreed *region.Region) *Source {
	if n.Organisation == "" && n.Kind == region.KindTombolo {
		return nil
	}
	out := &Source{System: n.ID, Organisation: n.Organisation, Release: region.Release{Off: true}, Above: agreed.Above(n.Organisation)}
	if org, ok := agreed.Organisation(n.Organisation); ok {
		out.Kind = org.Kind
	}
	if now, ok := agreed.Neighbour(n.ID); ok && now.Organisation == n.Organisation {
		out.Release = region.Release{All: true}
	}
	return out
}
