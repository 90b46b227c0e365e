package match

import "strings"

// Keys are what a description can be found by: two descriptions are compared only if they have a key in common. Each kind of key survives other
// errors: a wrong birth date is found by name and postcode, a misspelt or exchanged name by its sound, a move by birth date.
//
//	b  birth date; with the sound of the given name where it is a first of January, which often stands for not known
//	p  postcode; with the sound of the given name where it is a short one
//	e  both names as they are, in either order
//	n  sounds of both names, in either order, and year of birth
//	d  sounds of both names, in either order, and day and month of birth
//	o  sounds of both names, in either order, and postcode district
//	t  a telephone number or address of electronic mail
//	i  a number in its system
//
// The sound of a given name is that of the name it is a form of.
func (d *Description) Keys() []string {
	keys := make([]string, 0, 10)
	givens := []string{""}
	if len(d.Given) > 0 {
		givens = callings(d.Given[0])
	}
	born := d.Born.digits()
	if d.Born.Whole() && (d.Born.Month != 1 || d.Born.Day != 1) {
		keys = append(keys, "b"+born)
	}
	district := d.Postcode
	if len(district) > 4 {
		district = district[:len(district)-3]
		keys = append(keys, "p"+d.Postcode)
	}
	for _, given := range givens {
		if d.Born.Whole() && d.Born.Month == 1 && d.Born.Day == 1 {
			keys = append(keys, "b"+born+given)
		}
		if d.Postcode != "" && len(d.Postcode) <= 4 {
			keys = append(keys, "p"+d.Postcode+given)
		}
		for _, f := range d.Family {
			both := pair(given, sound(f))
			if d.Born.Year != 0 {
				keys = append(keys, "n"+both+born[:4])
			}
			if d.Born.Whole() {
				keys = append(keys, "d"+both+born[4:])
			}
			if district != "" {
				keys = append(keys, "o"+both+district)
			}
		}
	}
	for _, f := range d.Family {
		if len(d.Given) > 0 {
			keys = append(keys, "e"+pair(d.Given[0], f))
		}
	}
	for _, c := range d.Contacts {
		keys = append(keys, "t"+c)
	}
	for _, n := range d.Numbers {
		keys = append(keys, "i"+n.System+"|"+n.Value)
	}
	return keys
}

// callings are the sounds of what somebody is called: of the names that theirs is a form of (Bob: Robert), or of their own.
func callings(given string) []string {
	lines := nicknames[given]
	if len(lines) == 0 {
		return []string{sound(given)}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = sound(nicknameHeads[l])
	}
	return out
}

// pair writes two codes in the same order, whichever was given first.
func pair(a, b string) string {
	if strings.Compare(a, b) > 0 {
		a, b = b, a
	}
	return a + "." + b
}
