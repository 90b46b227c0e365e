package match

import (
	"slices"
	"strings"
)

// Each line is one name and what it is shortened or changed to in British use. Two names of one line are nicknames of each other; a name may
// stand in several lines. Kept by hand; add to it freely.
const nicknameLines = `
abigail abby abbie gail
adam ad
agnes aggie nessie
albert al bert bertie
alexander alex alec sandy xander al sasha
alexandra alex lexi lexie sandra sasha
alfred alf alfie fred
alison ali allie
amanda mandy
amelia amy millie milly
andrew andy drew
angela angie ange
ann anne annie anna nan
annabel bella annabelle
anthony tony antony ant
archibald archie
arthur art arty
barbara barb babs barbie
beatrice bea bee trixie
benjamin ben benny benjy
bernard bernie
bethany beth
bridget biddy bridie
cameron cam
caroline carrie caz carol
catherine kate cathy katie kathy kitty cath kath kay katherine kathryn catharine kathleen
charles charlie chas chuck
charlotte lottie charlie char
christine chris chrissie tina christina
christopher chris kit topher
clifford cliff
constance connie
cynthia cindy
daniel dan danny
david dave davey davy dai
deborah debbie deb debra
dennis den denny
derek del
dominic dom nic
donald don donnie
dorothy dot dotty dolly
douglas doug dougie
edward ed eddie ted teddy ned eddy
eleanor ellie nell nellie nora elle elinor
elizabeth liz lizzie beth betty bess eliza libby elsie lisa lizzy betsy elisabeth lilibet
emily em emmy
emma em
emmanuel manny
ernest ernie
eugene gene
evelyn eve evie
florence flo florrie flossie
frances fran frankie fanny
francis frank frankie
frederick fred freddie freddy fredrick
gabriel gabe
gabrielle gabby
gareth gaz gary
geoffrey geoff jeff jeffrey
george georgie
georgina georgie gina
gerald gerry jerry
gillian gill gilly jill jillian
gordon gordy
graham gra grahame graeme
gregory greg
gwendolyn gwen gwenda
hannah hanna
harold harry hal
harriet hattie harry
helen nell ellen helena
henry harry hal hank
herbert herb bert bertie
hugh hughie huw
ian iain
isabella bella izzy isabel isobel isabelle issy
jacob jake
jacqueline jackie jacqui jaqueline
james jim jimmy jamie jem
jane janie jayne
janet jan
jasmine jas jaz
jeanette jean nettie
jennifer jen jenny jennie
jeremy jerry jez
jessica jess jessie
jillian jill
joan joanie
joanna jo joanne joann
john jack johnny jon jonny johnnie
jonathan jon jonny jonathon nathan
joseph joe joey
josephine jo josie
joshua josh
joyce joy
judith judy jude
julia julie jules
kenneth ken kenny
kimberley kim kimberly
laura laurie
lawrence larry laurie laurence lawrie loz
leonard len lenny leo
leslie les lesley
lewis lew louis lou
lillian lil lily lilian
louise lou lulu louisa
lucy lucie lucinda
lydia liddy
madeleine maddie maddy madeline
malcolm mal
marcus marc mark
margaret maggie meg peggy marge margie madge greta rita daisy mags peg
maria mary marie
marilyn lyn
martin marty martyn
mary molly polly may mamie
matilda tilly mattie
matthew matt mat mattie
maurice mo morris
maureen mo
maxwell max
michael mike mick micky mickey mikey
michelle shell chelle
mohammed muhammad mohammad mohamed mohamad muhammed md mo
molly polly
nancy nan
natalie nat
natasha tasha
nathan nat nate
nathaniel nathan nat
neil neal
nicholas nick nicky nicolas nic
nicola nicky nikki nic
norman norm
oliver ollie olly
olivia liv livvy
oscar ossie
pamela pam
patricia pat trish patsy tricia paddy
patrick pat paddy padraig
paul paulie
pauline polly
penelope penny
peter pete
philip phil phillip pip
philippa pip pippa
priscilla cilla
rachel rach rachael
raymond ray
rebecca becky becca bex
reginald reg reggie
richard rick dick ricky richie rich dickie
robert bob rob bobby robbie bert robin
roberta bobbie
roderick rod roddy
rodney rod
roger rodge
ronald ron ronnie
rosemary rose rosie
rowland roland
roy royston
russell russ
ruth ruthie
samantha sam sammy
samuel sam sammy
sandra sandy
sarah sally sara sadie
sharon shaz
sheila shelagh
sidney sid sydney
simon si
sophia sophie
stanley stan
stella estelle
stephanie steph stevie
stephen steve steven stevie
stuart stu stewart
susan sue susie suzy susanna susannah suzanne
sylvia sylvie
tabitha tabby
teresa terry tess tessa theresa
terence terry terrance
thea dorothea
theodore ted theo teddy
thomas tom tommy
timothy tim timmy
tracey trace tracy
ursula ulla
valerie val
vera veronica
vernon vern
victor vic
victoria vicky tori vikki vicki
vincent vince vinny
virginia ginny
vivian viv vivien
walter wally walt
wendy wen
wilfred wilf fred
william bill will billy willie liam wills
winifred win winnie freda
yasmin yaz
yvonne vonnie
zachary zac zack zak
`

// nicknames are the lines that a name stands in; nicknameHeads the first name of each line.
var nicknames, nicknameHeads = readNicknames(nicknameLines)

func readNicknames(text string) (lines map[string][]uint16, heads []string) {
	lines = map[string][]uint16{}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		names := strings.Fields(line)
		for _, name := range names {
			if n := uint16(len(heads)); !slices.Contains(lines[name], n) {
				lines[name] = append(lines[name], n)
			}
		}
		heads = append(heads, names[0])
	}
	return lines, heads
}

// nickname reports whether one name is a short or other form of the other. Two short forms of one name are (Bob, Rob); two long ones are not.
func nickname(a, b string) bool {
	for _, i := range nicknames[a] {
		for _, j := range nicknames[b] {
			if i == j {
				return true
			}
		}
	}
	return false
}
