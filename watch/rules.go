package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/region"
)

// A Member is one of the staff, from a register. Only User is needed; what else is known lets more rules speak.
type Member struct {
	User, Family, Given, NHSNumber, Organisation string
	Home                                         string // of home()
}

// A Person is whose record it is, as far as the rules need it.
type Person struct {
	ID, NHSNumber, Family, Given string
	Home                         string // of home(), "" if not known
	Deceased                     string // date, "true", or ""
	Practice                     string
	Restricted, VIP              bool
}

// Limits are the numbers above which something is unusual.
type Limits struct {
	PeopleHour, PeopleDay         int // different people whose records one clinician opened
	DeskPeopleHour, DeskPeopleDay int // the same at a reception
	NotFound                      int // searches that found nobody, in ten minutes
	Refused                       int // different people refused, in an hour
	Claimed                       int // different people a day with nothing but the user's word
	AgainClaimed, AgainConfirmed  int // days out of seven, and openings a day, on one person
	Household                     int // different people of one address in an hour, without a known relationship
	Addresses                     int // different network addresses of one user in ten minutes
	AfterDeath                    time.Duration
	DayFrom, DayTo                int // minutes since midnight between which day services work
}

// DefaultLimits leave a region's ordinary day in peace.
var DefaultLimits = Limits{PeopleHour: 40, PeopleDay: 120, DeskPeopleHour: 90, DeskPeopleDay: 300, NotFound: 10, Refused: 5, Claimed: 25,
	AgainClaimed: 4, AgainConfirmed: 30, Household: 3, Addresses: 3, AfterDeath: 28 * 24 * time.Hour, DayFrom: 6*60 + 30, DayTo: 21*60 + 30}

// Facts are all that a rule knows: one event, the people in it, and what its user did before.
type Facts struct {
	Access       audit.Summary
	Limits       Limits
	Organisation region.Kind // of the user; "" if not known
	Person       *Person     // whose record; nil if nobody's or not known
	Staff        *Member     // the user in the staff register
	AsStaff      *Member     // the person in the staff register
	Recent       Recent
}

// Recent is what the user did until now, this event included.
type Recent struct {
	PeopleHour, PeopleDay int // different people whose records were opened
	Claimed               int // different people opened on the user's word alone, in a day
	NotFound              int // searches that found nobody, in ten minutes
	Refused               int // different people refused, in an hour
	SamePersonToday       int // openings of this person's record in a day
	SamePersonDays        int // days of the last seven on which it was opened
	SameHome              int // different people at this person's address whose records were opened in an hour
	Addresses             int // different network addresses in ten minutes
}

// A Rule raises one kind of alert.
type Rule struct {
	Kind  string
	Title string // in words, for the queue
	Grave bool   // to be looked at today
	Each  bool   // about one user and one person; else about one user
	Look  func(Facts) (reason string)
}

// Rules are all that there are.
var Rules = []Rule{
	{"break-glass", "Emergency access", true, true, breakGlass},
	{"own-record", "Own record opened at work", false, true, ownRecord},
	{"same-address", "Record of the same household opened", true, true, sameAddress},
	{"same-surname", "Record of somebody with the same surname opened", false, true, sameSurname},
	{"colleague", "Record of a colleague opened", true, true, colleague},
	{"vip", "Record of a watched person opened", true, true, vip},
	{"no-relationship", "Opened without a known relationship", false, true, noRelationship},
	{"restricted", "Restricted record opened without a known relationship", true, true, restricted},
	{"many-claims", "Many records opened on the user's word alone", false, false, manyClaims},
	{"out-of-hours", "Opened while the service is closed", false, false, outOfHours},
	{"volume", "Very many records opened", true, false, volume},
	{"enumeration", "Numbers tried one after the other", true, false, enumeration},
	{"refused-again", "Refused again and again", false, false, refusedAgain},
	{"after-death", "Opened long after death", false, true, afterDeath},
	{"repeated", "One person's record opened again and again", false, true, repeated},
	{"household", "A whole household opened", false, false, household},
	{"two-places", "One user in several places at once", true, false, twoPlaces},
	{"wrong-patient", "A source answered about somebody else", true, true, wrongPatient},
	{"launch", "A launch that somebody meddled with", true, false, meddledLaunch},
	{"export", "Records exported", false, false, export},
}

// opens reports whether a record was opened, or begun to be. A subscriber that is told of many people does what it is there for.
func (f Facts) opens() bool { return f.Access.Shows() && f.Access.Kind != audit.Notified }

// Confirmed reports whether a system of the region knows that the user's organisation cares for the person.
func (f Facts) confirmed() bool {
	said := f.Access.Said("permitted")
	return slices.Contains(said, "registered-practice") || slices.Contains(said, "known-here")
}

// Claimed reports whether nothing but the user's word speaks for the relationship.
func (f Facts) claimed() bool {
	return !f.confirmed() && slices.Contains(f.Access.Said("permitted"), "self-claimed")
}

func breakGlass(f Facts) string {
	if f.Access.Kind != audit.BreakGlass && len(f.Access.Said("emergency")) == 0 {
		return ""
	}
	return "The record was opened against the person's objection. The reason given: " + strings.Join(f.Access.Said("emergency"), "; ")
}

// family is the user's surname: from the register, or the last word of their name.
func (f Facts) family() string {
	if f.Staff != nil && f.Staff.Family != "" {
		return f.Staff.Family
	}
	words := strings.Fields(f.Access.Who)
	if len(words) < 2 || strings.Contains(f.Access.Who, ",") { // a single name or a system's
		return ""
	}
	return words[len(words)-1]
}

func (f Facts) given() string {
	if f.Staff != nil {
		return f.Staff.Given
	}
	words := strings.Fields(f.Access.Who)
	for len(words) > 2 && titles[strings.ToLower(strings.TrimSuffix(words[0], "."))] {
		words = words[1:]
	}
	if len(words) < 2 {
		return ""
	}
	return words[0]
}

var titles = map[string]bool{"dr": true, "mr": true, "mrs": true, "ms": true, "miss": true, "sr": true, "prof": true, "professor": true}

func ownRecord(f Facts) string {
	switch {
	case !f.opens() || f.Person == nil:
		return ""
	case f.Staff != nil && f.Staff.NHSNumber != "":
		if f.Staff.NHSNumber == f.Person.NHSNumber {
			return "By the staff register it is the user's own record."
		}
	case fold(f.family()) != "" && fold(f.family()) == fold(f.Person.Family) && fold(f.given()) == fold(f.Person.Given):
		return "The user has the same given name and surname as the person."
	}
	return ""
}

// The commonest surnames: two people who share one of them are seldom of one family.
var common = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields("smith jones williams taylor brown davies evans wilson thomas johnson roberts robinson thompson wright walker white edwards hughes green hall " +
		"lewis harris clarke patel jackson wood turner martin cooper hill ward morris moore clark lee king baker harrison morgan allen james scott phillips watson davis parker " +
		"price bennett young griffiths mitchell kelly cook carter richardson bailey collins bell shaw murphy miller cox richards khan marshall anderson simpson ellis adams singh begum " +
		"wilkinson foster chapman powell webb rogers gray mason ali hunt hussain campbell matthews owen palmer holmes mills barnes knight lloyd butler russell barker fisher stevens ahmed chen") {
		m[n] = true
	}
	return m
}()

func sameSurname(f Facts) string {
	name := fold(f.family())
	if !f.opens() || f.Person == nil || name == "" || name != fold(f.Person.Family) || common[name] && f.confirmed() {
		return ""
	}
	if common[name] {
		if f.Organisation == region.KindAcute || f.Organisation == region.KindAmbulance { // who comes in comes in
			return ""
		}
		return "The user's surname is the person's, and no system knows of a relationship of care."
	}
	return "The user's surname, which is not a common one, is the person's."
}

func sameAddress(f Facts) string {
	if !f.opens() || f.Person == nil || f.Staff == nil || f.Staff.Home == "" || f.Staff.Home != f.Person.Home || f.Staff.NHSNumber == f.Person.NHSNumber {
		return ""
	}
	return "By the staff register the user lives at the person's address."
}

func colleague(f Facts) string {
	if !f.opens() || f.AsStaff == nil || f.AsStaff.Organisation != f.Access.ODS || f.AsStaff.User == f.Access.User {
		return ""
	}
	return "By the staff register the person works at the user's organisation."
}

func vip(f Facts) string {
	if !f.opens() || f.Person == nil || !f.Person.VIP {
		return ""
	}
	return "Every reading of this person's record is looked at."
}

func noRelationship(f Facts) string {
	if !f.opens() || !f.claimed() || f.Person == nil || f.Access.Kind == audit.BreakGlass {
		return ""
	}
	switch f.Organisation {
	case region.KindGP:
		if f.Person.Practice != "" && f.Person.Practice != f.Access.ODS {
			return "The person is registered with another practice, and the user's practice holds nothing of them."
		}
	case region.KindMentalHealth, region.KindSocialCare, region.KindCareHome, region.KindPrison, region.KindHospice:
		return "The user's organisation holds nothing of the person, and is none to which people come unannounced."
	}
	return ""
}

func restricted(f Facts) string {
	if !f.opens() || f.Person == nil || !f.Person.Restricted || f.confirmed() {
		return ""
	}
	return "Where this person lives must not be known, and no system knows of a relationship of care."
}

func manyClaims(f Facts) string {
	if !f.opens() || f.Recent.Claimed <= f.Limits.Claimed {
		return ""
	}
	return fmt.Sprintf("%d people in a day whom only the user's word connects with them.", f.Recent.Claimed)
}

// Services that close. A night worked from home by one who is on call is a question all the same.
var closes = map[region.Kind]bool{region.KindGP: true, region.KindSocialCare: true, region.KindPharmacy: true, region.KindOther: true}

func outOfHours(f Facts) string {
	at := f.Access.At.In(fhir.London)
	minute := at.Hour()*60 + at.Minute()
	if !f.opens() || !closes[f.Organisation] || minute >= f.Limits.DayFrom && minute < f.Limits.DayTo {
		return ""
	}
	return "Opened at " + at.Format("15:04") + ", when a service of this kind is closed."
}

func volume(f Facts) string {
	hour, day := f.Limits.PeopleHour, f.Limits.PeopleDay
	if f.Access.Role == receptionist {
		hour, day = f.Limits.DeskPeopleHour, f.Limits.DeskPeopleDay
	}
	switch {
	case !f.opens() || f.Access.Kind == audit.Export: // which is an alert of its own
	case f.Recent.PeopleHour > hour:
		return fmt.Sprintf("%d people's records in an hour.", f.Recent.PeopleHour)
	case f.Recent.PeopleDay > day:
		return fmt.Sprintf("%d people's records in a day.", f.Recent.PeopleDay)
	}
	return ""
}

func enumeration(f Facts) string {
	if !notFound(f.Access) || f.Recent.NotFound < f.Limits.NotFound {
		return ""
	}
	return fmt.Sprintf("%d searches in ten minutes found nobody: numbers are being tried.", f.Recent.NotFound)
}

func refusedAgain(f Facts) string {
	if f.Access.Kind != audit.Denied || f.Recent.Refused < f.Limits.Refused {
		return ""
	}
	return fmt.Sprintf("Refused the records of %d people in an hour.", f.Recent.Refused)
}

func afterDeath(f Facts) string {
	if !f.opens() || f.Person == nil || f.Person.Deceased == "" {
		return ""
	}
	died, err := fhir.ParseDate(f.Person.Deceased)
	if err != nil || f.Access.At.Sub(died.End) < f.Limits.AfterDeath {
		return ""
	}
	return fmt.Sprintf("The person died more than %d days ago.", int(f.Limits.AfterDeath.Hours()/24))
}

func repeated(f Facts) string {
	switch {
	case !f.opens():
	case !f.confirmed() && f.Recent.SamePersonDays >= f.Limits.AgainClaimed:
		return fmt.Sprintf("Opened on %d of the last seven days, and no system knows of a relationship of care.", f.Recent.SamePersonDays)
	case f.Recent.SamePersonToday >= f.Limits.AgainConfirmed:
		return fmt.Sprintf("Opened %d times in a day.", f.Recent.SamePersonToday)
	}
	return ""
}

func household(f Facts) string {
	if !f.opens() || f.confirmed() || f.Person == nil || f.Person.Home == "" || f.Recent.SameHome < f.Limits.Household {
		return ""
	}
	return fmt.Sprintf("%d people of one address in an hour, and no system knows of a relationship of care.", f.Recent.SameHome)
}

func twoPlaces(f Facts) string {
	if f.Recent.Addresses < f.Limits.Addresses {
		return ""
	}
	return fmt.Sprintf("From %d network addresses within ten minutes: is the account shared or stolen?", f.Recent.Addresses)
}

func wrongPatient(f Facts) string {
	if f.Access.Kind != audit.WrongPatient {
		return ""
	}
	return "The answer was dropped and not shown. The source must be told: " + strings.Join(f.Access.Said("source"), ", ")
}

func meddledLaunch(f Facts) string {
	if f.Access.Kind != audit.Denied || len(f.Access.Said("alarm")) == 0 {
		return ""
	}
	return "It was refused: " + strings.TrimPrefix(strings.Join(f.Access.Said("refused"), "; "), "launch: ") + ". Either somebody changed it on its way, or the system that launched does so wrongly."
}

func export(f Facts) string {
	if f.Access.Kind != audit.Export || len(f.Access.Said("audit log")) > 0 {
		return ""
	}
	return strings.TrimSuffix("A record left the region's systems as a file. The reason given: "+cmp.Or(strings.Join(f.Access.Said("reason"), "; "), "none"), ".") + "."
}

func notFound(s audit.Summary) bool { return s.Kind == audit.Search && s.Outcome == audit.Minor }

// home makes two ways of writing one address the same: the first line and the postcode, without spaces and case.
func home(line, postcode string) string {
	if line == "" || postcode == "" {
		return ""
	}
	return fold(line) + "|" + fold(postcode)
}

// Home is how a register's addresses are compared with people's.
func Home(line, postcode string) string { return home(line, postcode) }

func fold(s string) string {
	return strings.Map(func(c rune) rune {
		switch c {
		case ' ', '\'', '’', '-', '.', ',':
			return -1
		}
		return c
	}, strings.ToLower(s))
}
