package ucum

// The base units. UCUM §28
const bases = `m s g rad K C cd`

// Units that are multiples of no other: arbitrary ones (UCUM §24), and logarithms, which are not converted here.
const arbitrary = `[iU] [arb'U] [USP'U] [CFU] [PFU] [FFU] [CCID_50] [TCID_50] [EID_50] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U]
[smgy'U] [bdsk'U] [ka'U] [knk'U] [mclg'U] [tb'U] [EU] [ELU] [Lf] [PNU] [LPF] [HPF] [BAU] [AU] [Amb'a'1'U] [D'ag'U] [hnsf'U] [FEU] [MET'U] [pH] B Np B[SPL] B[V]
B[mV] B[uV] B[W] B[kW] [hp'_X] [hp'_C] [hp'_M] [hp'_Q]`

// The units that are defined by others: symbol, number, unit; "metric" if it takes prefixes. UCUM §§26–45
const derived = `
10*          10            1
10^          10            1
[pi]         3.1415926535897932384626433832795028841971693993751058209749445923 1
%            0.01          1
[ppth]       0.001         1
[ppm]        0.000001      1
[ppb]        0.000000001   1
[pptr]       0.000000000001 1
mol          602213670000000000000000 1 metric
sr           1             rad2     metric
Hz           1             s-1      metric
N            1             kg.m/s2 metric
Pa           1             N/m2     metric
J            1             N.m      metric
W            1             J/s      metric
A            1             C/s      metric
V            1             J/C      metric
F            1             C/V      metric
Ohm          1             V/A      metric
S            1             Ohm-1    metric
Wb           1             V.s      metric
Cel          1             K        metric
T            1             Wb/m2    metric
H            1             Wb/A     metric
lm           1             cd.sr    metric
lx           1             lm/m2    metric
Bq           1             s-1      metric
Gy           1             J/kg     metric
Sv           1             J/kg     metric
deg          2             [pi].rad/360
gon          0.9           deg
'            1             deg/60
''           1             '/60
l            1             dm3      metric
L            1             l        metric
ar           100           m2       metric
min          60            s
h            60            min
d            24            h
wk           7             d
a_t          365.24219     d
a_j          365.25        d
a_g          365.2425      d
a            1             a_j
mo_s         29.53059      d
mo_j         1             a_j/12
mo_g         1             a_g/12
mo           1             mo_j
t            1000          kg       metric
bar          100000        Pa       metric
u            1.6605402e-24 g        metric
eV           1.60217733e-19 J       metric
AU           149597.870691 Mm
pc           3.085678e16   m        metric
[c]          299792458     m/s      metric
[h]          6.6260755e-34 J.s      metric
[k]          1.380658e-23  J/K      metric
[eps_0]      8.854187817e-12 F/m    metric
[e]          1.60217733e-19 C       metric
[m_e]        9.1093897e-28 g        metric
[m_p]        1.6726231e-24 g        metric
[G]          6.67259e-11   m3.kg-1.s-2 metric
[g]          9.80665       m/s2     metric
atm          101325        Pa
[ly]         1             [c].a_j  metric
gf           1             g.[g]    metric
Ky           100           m-1      metric
Gal          1             cm/s2    metric
dyn          1             g.cm/s2  metric
erg          1             dyn.cm   metric
P            1             dyn.s/cm2 metric
St           1             cm2/s    metric
Lmb          1             cd/cm2/[pi] metric
ph           0.0001        lx       metric
Ci           37000000000   Bq       metric
R            0.000258      C/kg     metric
RAD          100           erg/g    metric
REM          1             RAD      metric
G            0.0001        T        metric
Mx           1e-8          Wb       metric
[in_i]       2.54          cm
[ft_i]       12            [in_i]
[yd_i]       3             [ft_i]
[mi_i]       5280          [ft_i]
[fth_i]      6             [ft_i]
[nmi_i]      1852          m
[kn_i]       1             [nmi_i]/h
[sin_i]      1             [in_i]2
[sft_i]      1             [ft_i]2
[syd_i]      1             [yd_i]2
[cin_i]      1             [in_i]3
[cft_i]      1             [ft_i]3
[cyd_i]      1             [yd_i]3
[mil_i]      0.001         [in_i]
[hd_i]       4             [in_i]
[gal_us]     231           [in_i]3
[qt_us]      1             [gal_us]/4
[pt_us]      1             [qt_us]/2
[foz_us]     1             [pt_us]/16
[fdr_us]     1             [foz_us]/8
[min_us]     1             [fdr_us]/60
[tbs_us]     1             [foz_us]/2
[tsp_us]     1             [tbs_us]/3
[cup_us]     16            [tbs_us]
[foz_m]      30            mL
[cup_m]      240           mL
[tsp_m]      5             mL
[tbs_m]      15            mL
[gal_br]     4.54609       l
[pt_br]      1             [gal_br]/8
[foz_br]     1             [gal_br]/160
[gr]         64.79891      mg
[lb_av]      7000          [gr]
[oz_av]      1             [lb_av]/16
[oz_m]       28            g
[dr_av]      1             [oz_av]/16
[scwt_av]    100           [lb_av]
[ston_av]    20            [scwt_av]
[lcwt_av]    112           [lb_av]
[lton_av]    20            [lcwt_av]
[stone_av]   14            [lb_av]
[pwt_tr]     24            [gr]
[oz_tr]      20            [pwt_tr]
[lb_tr]      12            [oz_tr]
[sc_ap]      20            [gr]
[dr_ap]      3             [sc_ap]
[oz_ap]      8             [dr_ap]
[lb_ap]      12            [oz_ap]
[lbf_av]     1             [lb_av].[g]
[psi]        1             [lbf_av]/[in_i]2
[degF]       5             K/9
[degR]       5             K/9
cal_[15]     4.18580       J        metric
cal_[20]     4.18190       J        metric
cal_m        4.19002       J        metric
cal_IT       4.1868        J        metric
cal_th       4.184         J        metric
cal          1             cal_th   metric
[Cal]        1             kcal_th
[Btu]        1.05505585262 kJ
[HP]         550           [ft_i].[lbf_av]/s
m[H2O]       9.80665       kPa      metric
m[Hg]        133.3220      kPa      metric
[in_i'H2O]   1             m[H2O].[in_i]/m
[in_i'Hg]    1             m[Hg].[in_i]/m
[PRU]        1             mm[Hg].s/mL
[wood'U]     1             mm[Hg].min/L
[diop]       1             m-1
[mesh_i]     1             [in_i]-1
[Ch]         1             mm/3
[drp]        1             mL/20
[MET]        3.5           mL/min/kg
eq           1             mol      metric
osm          1             mol      metric
g%           1             g/dL     metric
kat          1             mol/s    metric
U            1             umol/min metric
st           1             m3       metric
Ao           0.1           nm
b            100           fm2
att          1             kgf/cm2
mho          1             S        metric
[car_m]      0.2           g
[smoot]      67            [in_i]
bit          1             1        metric
By           8             bit      metric
Bd           1             s-1      metric
[pouce]      2.707         cm
[ligne]      1             [pouce]/12
[bu_us]      2150.42       [in_i]3
[acr_us]     4046.872609874252 m2
circ         2             [pi].rad
sph          4             [pi].sr
`
