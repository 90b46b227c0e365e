package watch

import (
	"time"

	"tombolo/audit"
	"tombolo/policy"
)

// How far the rules look back, and within what.
const (
	lookBack = 7 * 24 * time.Hour
	aDay     = 24 * time.Hour
	shortly  = 10 * time.Minute
	maxActs  = 2000 // of one user in a day; beyond that every limit has long been passed
)

var receptionist = func() string { i, _ := policy.Receptionist.Info(); return i.Name }()

// An act is one event of a user, as short as the rules can do with.
type act struct {
	at            time.Time
	person, home  string
	trace         string
	address       string
	in            bool // whoever did it had got in: anybody may try under somebody's name, and from anywhere
	opened        bool
	claimed       bool
	refused, none bool
}

// A history is what each user did in the last day, and on which days of the last week they opened whose record. One goroutine uses it.
type history struct {
	acts map[string][]act
	days map[string]map[string]int64 // user and person -> days of the last seven, a bit each, above them the newest day
	swep time.Time
}

func newHistory() history {
	return history{acts: map[string][]act{}, days: map[string]map[string]int64{}}
}

// add takes in the event, and fills in what it follows upon. It is false for the second event of one disclosure.
func (h *history) add(f *Facts) bool {
	s := f.Access
	now := act{at: s.At, person: s.PersonID, trace: s.Trace, address: s.Address, in: s.Role != "", opened: f.opens(), claimed: f.opens() && f.claimed(),
		refused: s.Kind == audit.Denied && s.PersonID != "", none: notFound(s)}
	if f.Person != nil {
		now.home = f.Person.Home
	}
	acts := h.acts[s.User]
	old := 0
	for old < len(acts) && s.At.Sub(acts[old].at) > aDay {
		old++
	}
	acts = acts[max(old, len(acts)-maxActs):]
	if now.opened && now.trace != "" {
		for i := len(acts) - 1; i >= 0 && s.At.Sub(acts[i].at) < shortly; i-- {
			if acts[i].opened && acts[i].trace == now.trace && acts[i].person == now.person {
				h.acts[s.User] = acts
				return false
			}
		}
	}
	h.acts[s.User] = append(acts, now)
	f.Recent = recentOf(h.acts[s.User], now)
	if now.opened {
		f.Recent.SamePersonDays = h.day(s.User, s.PersonID, s.At)
	}
	h.sweep(s.At)
	return true
}

func recentOf(acts []act, now act) Recent {
	var r Recent
	hour, day, claimed, refused, addresses, atHome := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, a := range acts {
		ago := now.at.Sub(a.at)
		if a.opened {
			day[a.person] = true
			if ago <= time.Hour {
				hour[a.person] = true
				if now.home != "" && a.home == now.home {
					atHome[a.person] = true
				}
			}
			if a.claimed {
				claimed[a.person] = true
			}
			if a.person == now.person && now.person != "" {
				r.SamePersonToday++
			}
		}
		if a.refused && ago <= time.Hour {
			refused[a.person] = true
		}
		if ago <= shortly {
			if a.none {
				r.NotFound++
			}
			if a.in && a.address != "" {
				addresses[a.address] = true
			}
		}
	}
	r.PeopleHour, r.PeopleDay, r.Claimed, r.Refused, r.Addresses, r.SameHome = len(hour), len(day), len(claimed), len(refused), len(addresses), len(atHome)
	return r
}

// day marks that the user opened the person's record today, and counts the days of the last seven on which they did.
func (h *history) day(user, person string, at time.Time) int {
	of := h.days[user]
	if of == nil {
		of = map[string]int64{}
		h.days[user] = of
	}
	today := at.Unix() / int64(aDay/time.Second)
	was := of[person]
	bits := was & 0x7f
	if passed := today - was>>7; passed > 0 {
		bits = bits << min(passed, 7) & 0x7f
	}
	bits |= 1
	of[person] = today<<7 | bits
	n := 0
	for ; bits > 0; bits >>= 1 {
		n += int(bits & 1)
	}
	return n
}

// sweep forgets, once an hour, those of whom nothing is left to remember.
func (h *history) sweep(now time.Time) {
	if now.Sub(h.swep) < time.Hour {
		return
	}
	h.swep = now
	for user, acts := range h.acts {
		if len(acts) == 0 || now.Sub(acts[len(acts)-1].at) > aDay {
			delete(h.acts, user)
		}
	}
	today := now.Unix() / int64(aDay/time.Second)
	for user, of := range h.days {
		for person, v := range of {
			if today-v>>7 >= 7 {
				delete(of, person)
			}
		}
		if len(of) == 0 {
			delete(h.days, user)
		}
	}
}
