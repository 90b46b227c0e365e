package policy

// DecideOwn decides whether a system may read and write what it itself holds here: its own part of the store, as any FHIR server's client does
// with its server. No agreement is asked for, because nothing is shared with anybody, and no relationship with a patient, because whoever
// runs the system holds those records already. What the system writes is shared with others by Decide alone.
func DecideOwn(s Subject, src Source) Decision {
	d := Decision{Version: Version}
	refuse := func(code, text string) { d.Reasons = append(d.Reasons, Reason{code, text}) }
	if !s.Role.info().Keeps {
		refuse("role", "this role keeps no record of its own here")
	}
	if s.System == "" || s.System != src.System {
		refuse("other-source", "a system reads and writes its own record only")
	}
	if s.Organisation == "" || s.Organisation != src.Organisation {
		refuse("other-organisation", "the system belongs to another organisation")
	}
	if len(d.Reasons) > 0 {
		return d
	}
	d.Permit = true
	d.Reasons = []Reason{{"own-source", "the system that holds it"}}
	return d
}
