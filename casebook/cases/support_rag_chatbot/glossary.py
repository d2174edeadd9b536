"""German and Spanish words of a parcel carrier's customers, each with its English: by hand.

Built from the frequent words of the articles and of the questions that were tuning questions at
that time; the split was drawn anew afterwards. :func:`unread` says which of today's test questions
gave no word to it. An entry is ``forms=English``: phrases with spaces first, then beginnings of
words, without marks on letters (``ä`` is ``a``). A beginning of four letters or more also stands
for longer words; German compounds are taken apart. An English side of ``-`` drops the word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache, lru_cache

from casebook.retrieval.text import fold

GERMAN = """
wie viel,wie viele,wieviel,wieviele,wievil=how much; wie lange,wie lang=how long
wie oft=how often; wie schwer=how heavy; wie gross=how large; wie hoch=how high
bis wann=until when; ab wann=from when; bis zu=up to
was kostet,was kost,was macht das=what does it cost; zu hause,daheim,zuhaus=at home
zu teuer=too expensive; immer noch=still; nicht da,keiner da,niemand da=nobody at home
was tun,was mach=what should do; noch nicht=not yet; ab welch=from which; im voraus=in advance
ins ausland,im ausland=abroad; aus dem ausland=from abroad; auf der arbeit=at work; wann,wan=when
wer=who; wen,wem=whom; wo=where; woher=from where; wohin=where to; was,wat=what
warum,wieso,weshalb=why; welch=which; wie=how; womit=with what; wofur,wozu=what for; ob=whether
binnen=within; darf,durf=may; kann,konn,kan=can; muss,muß,mus=must; soll=should
will,woll,mocht=want; braucht,brauch=need; gibt,gibts=is there; gilt,gelt=valid; geht=possible
hab,hat,hatt=have; ist,sind,war,sein,bin=is; wird,werd=will; ich,mir,mich=I; mein=my
ihr,euch,eu,sie,ihnen=you; ihre=your; wir,uns=we; unser=our; er,es=it; man=one
der,die,das,den,dem,des=the; ein,ne,nen=a; und=and; oder=or; nicht=not; kein,nix,nichts=no
mit=with; ohne=without; auf=on; fur=for; von,vom=of; zu,zum,zur=to; bei,beim=at; nach=after
vor=before; in,im,ins=in; an,am=at; aus=from; bis=until; uber=over; unter=under; wenn,falls=if
weil=because; als=as; auch=also; noch=still; schon=already; nur=only; mehr=more; dann=then
aber=but; doch,denn,mal,halt,ja,eh,gell,bitte,danke,hallo,leider,eigentlich=-; hier=here
dort,da=there; jetzt,grad,gerade=now; heute=today; morgen=tomorrow; gestern=yesterday
immer=always; nie=never; sofort,gleich=immediately; spater=later; fruher=earlier; wieder=again
zuruck=back; weg=gone; jemand=somebody; niemand,keiner=nobody; ander=other; alle,alles=all
selbst,selber=myself; paket,packerl,packl,pakerl=parcel; packchen=small parcel
sendung,zusendung=shipment; karton,schachtel,kist=box; lieferung,liefer=delivery
zustell,zugestellt,gebracht,bring=deliver; versand=shipping
verschick,schick,send,versend,verschicke=send; brief=letter; umschlag=envelope
einliefer,aufgeb,abgeb=drop off; abhol,abgeholt=pick up; hol=fetch
bekomm,krieg,erhalt,empfang=receive; empfanger=recipient; absender,versender=sender; filial=branch
schalter=counter; laden,shop,geschaft=shop; packstation=parcel locker; fach=locker; automat=locker
briefkast=letter box; nachbar=neighbour; fahrer,bote,botin,kurier,zusteller=courier
tour,runde=route; wagen=van; depot,lager=depot; hinterleg=left at branch; ablag,abstell=safe place
umleit,nachsend,umgeleit=redirect; adress,anschrift=address; strass=street
hausnummer=house number; postleitzahl=postcode; umzug,umzieh,umgezog=moving house
urlaub,ferien,verreis=holiday away; pausier=pause; aufbewahr,aufheb,liegt,lieg,bleibt,behalt=kept
warten,wart=wait; verpass=missed; versuch=attempt; karte,zettel,benachrichtigung=card; gelb=yellow
klingel=doorbell; tur=door; haustur=front door; treppe,stock=stairs floor; garag=garage
garten=garden; unterschr,signatur=signature; unterschreib=sign; ausweis=identity card
pass=passport; vollmacht=authority; nachweis,beleg,quittung=proof receipt; foto,bild=photo
nummer,numer=number; sendungsnummer=tracking number; verfolg,tracking,nachverfolg=tracking
status=status; verlauf=history; anzeig,zeigt=shows; stand,meldung=status message
bewegt,ruhrt,steht=not moving; haengt=stuck; unterwegs=in transit
verspat,verzoger,zu spat=delayed late; ankomm,angekomm,ankunft,da sein=arrive
verloren,verlor,verschwund,verschollen,futsch,weg=lost; gefund=found
suchauftrag,nachforsch=inquiry search; such=search
kaputt,beschadig,zerbroch,hin,scherb,bruch,schad,entzwei,zerdell=damaged damage
reklam,beanstand=claim; beschwer=complaint
ersatz,ersetz,entschadig,erstatt,ersta=compensation refund; haft=liability; versicher=insurance
wert=value; hochst,maxim=maximum; mindest,minim=minimum; geld=money; zahl,bezahl,uberweis=pay
preis,kosten,kost,gebuhr,porto,tarif=price; zuschlag,aufpreis=surcharge; rabatt=discount
gratis,kostenlos,umsonst=free; rechnung,abrechnung=invoice; konto=account
geschaftskonto=business account; monatsrechnung=monthly invoice
firma,firmen,betrieb,gewerblich,unternehm,geschaftlich=business; privat=private; kund=customer
vertrag=contract; kundig=cancel; mahn=reminder; lastschrift,abbuch,abgebucht=direct debit
kreditkart=credit card; bar=cash; nachnahme=cash on delivery; steuer=tax; mehrwertsteuer=VAT
zoll=customs; abgab=import charges; einfuhr=import; ausfuhr=export
zollinhalt,formular,vordruck,antrag=form; papier,unterlag,dokument=documents
erklarung=declaration; freigrenz,freibetrag=duty-free allowance; warenwert=goods value
geschenk=gift; ausland,international=abroad international; inland=domestic; europa=Europe; eu=EU
land,lander=country; schweiz=Switzerland; osterreich=Austria; deutschland=Germany
frankreich=France; italien=Italy; spanien=Spain; amerika,usa=United States
england,grossbritannien=United Kingdom; norweg=Norway; turkei=Turkey; danemark=Denmark
schweden=Sweden; polen=Poland; niederland,holland=Netherlands; belgi=Belgium; insel=island
grenz=limit; drittland=non-EU country; gewicht,schwer,wieg=weight; kilo=kg; gramm=grams
mass,gross,grosse,abmess=size; lang=long; lange=length; breit=wide; hoch=high; umfang=girth
dick=thick; sperr=bulky goods; rohr=tube; rolle=roll; mobel,schrank,sofa=furniture
fahrrad,rad,velo=bicycle; waschmaschin,kuhlschrank=large appliance; verpack,einpack,pack=packing
polster=padding; klebeband,kleb=tape; etikett,aufkleber,label,versandschein=label
druck,ausdruck=print; drucker=printer; code=code; qr=QR; barcode=barcode
frankier,freimach=pay postage; marke=stamp; online=online; app=app
handy,telefon,anruf,ruf=phone call; internet,seite,website=website; mail,email=e-mail
sms=text message; nachricht,benachrichtig,bescheid=notification; passwort,kennwort=password
anmeld,einlogg,login,registrier=log in; losch=delete; daten,datenschutz=personal data privacy
auskunft=information; speicher,gespeichert=stored
newsletter,werb,verteiler=advertising newsletter
betrug,betrug,fake,falsch sms,phishing=fraud phishing; link=link; verdacht=suspicious
gefahrgut,gefahrlich=dangerous goods; akku,batterie,powerbank=lithium battery
parfum,deo,haarspray=perfume aerosol; nagellack,lack=nail varnish
alkohol,wein,schnaps,gin,bier=alcohol wine; flussig,liter=liquid litre
essen,lebensmittel,kuch,torte,fleisch,kase=food perishable; pflanz,blume=plant
tier,hamster,bien=live animal; waffe,messer=weapon knife; medikament,tablett,arznei=medicine
geldschein,bargeld=cash banknotes; schmuck,gold,ring,uhr=jewellery; kunst,gemald=art
urne,asche=ashes; zigarett,tabak=tobacco; verbot,erlaubt,zulassig=prohibited allowed; glas=glass
zerbrechlich=fragile; ruckgab,retour,rucksend,zuruckschick,ruckschick=return; umtausch=exchange
handler,verkauf=merchant seller; annahme,verweiger=refuse parcel; ablehn,annehm=accept
bestell=order; gekauft,kauf=buy
offnungszeit,geoffnet,offen,auf habt,schliess,zu macht=opening hours closed
feiertag=public holiday; samstag=Saturday; sonntag=Sunday; montag=Monday; dienstag=Tuesday
mittwoch=Wednesday; donnerstag=Thursday; freitag=Friday; wochenend=weekend
werktag,arbeitstag=working days; tag=day; woche=week; monat=month; jahr=year; stund=hour
minut=minute; uhr=o'clock; abend=evening; mittag=noon; morgens,fruh=early morning; nacht=night
frist,zeit,dauer,dauert=time period; datum=date; termin,zeitfenster=time window; express=express
schnell,eilig,dringend=fast urgent; expressstuf=express level; am selben tag,selben=same day
kurzfristig=short notice; ander,umander=change; storn,absag,ruckgangig=cancel
korrig,berichtig,verschrieb,falsch,irrtum=correct wrong; verlanger=extend; vereinbar=arrange
vorausverfug=advance; melde,meld,anzeig=report; erreich,kontakt=contact; antwort,reagier=answer
dienst,kundendienst=customer service; mitarbeiter=staff; mensch,person=person
behindert,rollstuhl,rollator,blind,gehorlos,gebarden=disability wheelchair blind deaf
kind,sohn,tochter=child; frau=wife; mann=husband; mutter,mama,oma=mother; vater,opa=father
bruder=brother; schwester=sister; freund=friend; chef=boss; onkel=uncle; tante=aunt
verstorb,gestorb,tot,erb=deceased; alter,volljahrig,jahr alt,18,altersprufung=age check
minderjahrig=minor; co2,klima,umwelt,okolog=climate carbon; abo=subscription; menge=quantity
mehrere,viele,viel=many; einzeln=single; erst,zuerst=first; letzt=last; nachst=next; zweit=second
halb=half; doppelt,zweimal=twice; stuck=piece; ein,eins=one; zwei=two; drei=three; vier=four
funf=five; sechs=six; sieben=seven; acht=eight; neun=nine; zehn=ten; zwolf=twelve; zwanzig=twenty
hundert=hundred; tausend=thousand; euro=euros; cent=cents; prozent=percent; franken=Swiss francs
rechn,berechn=calculate; entscheid=decide; pruf=check; fehl=missing; leer=empty; inhalt=contents
auss=outside; inn=inside; offn=open; wohn=live; arbeit=work; haus=house; heim=home; stadt=city
dorf=village; bank,uberweisung=bank transfer; sicherheit=security; abrech=billing
lade,hochlad=upload; schrift,schreib=write; les=read; seh,nachseh,schau=look; find=find
komm,kam,kimmt=come; mach,tu=do; geh,gang=go; lass=leave; nehm,nimm=take; geb,gib=give; stell=put
halt=hold; sag=say; frag=ask; versteh=understand; weiss=know; funktionier=work; wechsel=change
weiter,weitergeleit=forward; anders=different; richtig=right; wichtig=important; neu=new; alt=old
klein=small; gut=good; zahler=meter; anhang=attachment; muster=sample; ziffer,stell=digit
zeichen=character; buchstab=letter; treibstoff,diesel,sprit=fuel; abgelegen,berg=remote area
"""

SPANISH = """
cuanto tiempo,cuantos dias=how long how many days
cuanto cuesta,cuanto vale,cuanto sale,que cuesta,que vale=how much does it cost
cuant,cto=how much; hasta cuando=until when; hasta que=until; desde cuando=since when
a que hora=at what time; cada cuanto=how often
fuera de casa,no estoy,no estare,no hay nadie,no habra nadie,nadie en casa=nobody at home
en casa=at home; al extranjero,en el extranjero=abroad
que hago,q ago,que tengo que hacer=what should I do; punto de recogida=pickup point
dos veces=twice; a tiempo=in time; ya no=no longer; numero de seguimiento=tracking number
tarjeta de credito=credit card; mismo dia=same day; mayor de edad=adult age
puerta a puerta=door to door; cuando,cuand=when; quien=who; donde=where; como=how; cual=which
que,q=what; por que,porque=why; si=if; puedo,pued,podr,podemos=can
debo,deb,tengo que,hay que=must; quier,quisier=want; necesit,hace falta=need; hay=is there
es,son,esta,estan,era,sea,ser,estar=is; tengo,tien,tener=have; ha,he,han,hab=have; yo,me,mi,mio=my
nos,nosotros,nuestr=our; vosotros,vuestr,os,usted,ustedes,su,sus,tu=your; le,les,lo,se=it
el,la,los,las=the; un,una,uno=a; y,e=and; o=or; no,ni=not; con=with; sin=without; en=in; de,del=of
a,al=to; por=by; para,pa=for; desde=from; hasta=until; sobre=about; entre=between; antes=before
despues,luego,tras=after; durante=during; mas=more; menos=less; muy=very; ya=already
aun,todavia=still; solo=only; tambien=also; pero=but
pues,oye,hola,gracias,favor,tio,mira,hijo,dale,che=-; aqui,ahi,alli=there; ahora=now; hoy=today
manana=tomorrow; ayer=yesterday; siempre=always; nunca=never; otra,otro=other; todo,toda=all
algo=something; nada=nothing; alguien=somebody; nadie=nobody; mismo,misma=same
ese,esa,eso,este,esta,esto=this; cada=each; paquet,bulto,encomienda=parcel; caja=box
envio,remesa,expedicion,envia=shipment; mandar,mand,enviar,remit=send; carta=letter
sobre=envelope; entreg,reparto=delivery; repart=deliver
repartidor,mensajero,conductor,chofer=courier; furgonet,camion=van; ruta=route
recib,llega,lleg=arrive receive; recog,recojo=pick up; destinatari=recipient; remitent=sender
oficina,sucursal,local=branch; mostrador,ventanilla=counter; tienda=shop; taquilla=parcel locker
buzon=letter box; vecin=neighbour; porter=concierge; puerta=door; timbre=doorbell
escaler,piso=stairs floor; direccion,senas=address; calle=street; codigo postal=postcode
mudanza,mud=moving house; vacaciones,viaj=away holiday; redirig,desvi,cambi=redirect change
guard,conserv,custodi=kept; esper=wait; ausent=absent; intento=attempt; aviso,papelito=notice card
amarill=yellow; firm,rubrica=signature; dni,identidad,documento=identity document
pasaporte=passport; autoriz,poder=authority; justificant,recibo,comprobante,tique=proof receipt
foto,imagen=photo; numero,num=number; seguimient,rastre,localiz=tracking; estado=status
historial=history; aparec,pone,sale,figura,dice=shows; parado,atasc,mueve,quieto=not moving
camino,transito=in transit; retras,demor,tarde=delayed late; perd,extravi,desaparec=lost
encontr=found; busqued,averigua,busc=inquiry search
rot,rotura,quebr,danad,dano,abollad,golpe,destroz,partid=damaged; reclam=claim
queja,quej=complaint; indemniz,reembols,devuelv el dinero,compens=compensation refund
responsab=liability; segur,asegur=insurance; valor=value; maxim=maximum; minim=minimum
limite,tope=limit; dinero,plata,perras=money; pagar,pago,paga,abon=pay
precio,coste,costar,tarifa,cuest,import,cobra,cobr=price charge; recargo,suplement=surcharge
descuent,rebaj=discount; gratis,gratuit=free; factur=invoice; cuenta=account
empres,negocio,autonom=business; particular,privad=private; client=customer; contrat=contract
baja,darme de baja=cancel; recordator=reminder; domiciliacion,recib=direct debit; tarjet=card
efectiv=cash; contra reembolso=cash on delivery; impuest,iva,tribut=tax
aduan,arancel=customs duty; importacion=import; exportacion=export; formular,impres,modelo=form
papel,papeles,documentacion=documents; declarac,declar=declaration
franquicia,exent=allowance exempt; mercanc,articul,objet=goods item; regal=gift; extranjer=abroad
internacional=international; nacional=domestic; union,europe,ue=European Union; pais=country
suiza=Switzerland; alemania=Germany; francia=France; italia=Italy; portugal=Portugal; espana=Spain
inglaterra,reino unido=United Kingdom; estados unidos,eeuu=United States; mexic=Mexico
marruecos=Morocco; canaria,isla=islands; peso,pesa,pesar=weight; kilo=kg; gramo=grams
medid,tamano,dimension=size; largo,longitud=length; ancho=width; alto=height; contorno=girth
volumin,grande=bulky large; tubo=tube; mueble,sofa,armario=furniture; bici=bicycle
lavadora,nevera,frigorif=large appliance; embal,empaquet,envolv=packing; relleno,acolch=padding
cinta,precinto=tape; etiquet,pegatina=label; imprim=print; impresora=printer; codigo,clave=code
qr=QR; franqueo,sello=postage stamp; internet,web,pagina=website; aplicacion,app,movil=app
telefon,llam=phone call; correo,mail=e-mail; sms,mensaje=message; notific,avis=notification
contrasena=password; registr,entrar,acceder,inici=log in; borr,suprim,elimin=delete
dato,privacidad=personal data; publicidad,propaganda=advertising
estafa,fraude,timo,falso,enga=fraud phishing; enlace,link=link; sospech=suspicious
peligros=dangerous goods; bateria,pila=lithium battery
perfume,colonia,laca,aerosol=perfume aerosol; esmalte,pintaunas=nail varnish
alcohol,vino,botella,licor=alcohol wine; liquid,litro=liquid
comida,aliment,jamon,queso,tarta=food perishable; planta,flor=plant
animal,abeja,bicho,insect=live animal; arma,cuchillo,navaja=weapon knife
medicament,medicina,pastilla=medicine; billete=banknotes cash; joya,anillo,oro,reloj=jewellery
cuadro,arte=art; ceniza,urna=ashes; tabaco=tobacco; prohib=prohibited
permit,admit,acept=accepted allowed; cristal,vidrio,fragil=glass fragile
devol,devuel,retorn=return; vendedor,vend=seller; rechaz,rehus=refuse parcel; pedid,ped=order
compr=buy; horario,abr,abierto=opening hours; cerr,cierr=close
festiv,feriad,fiesta=public holiday; sabado=Saturday; domingo=Sunday; lunes=Monday; martes=Tuesday
miercol=Wednesday; jueves=Thursday; viernes=Friday; fin de semana=weekend
laborabl,habil=working days; dia=day; semana=week; mes=month; ano=year; hora=hour; minut=minute
mediodia=noon; noche,tarde=evening; temprano=early; plazo,tiempo,tarda,dura,caduc=time period
fecha=date; franja=time window; urgent,expres,rapid=express urgent; anul,cancel=cancel
correg,equivoc,mal=correct wrong; ampli,prorrog,alarg=extend; acordar,concert=arrange
comunic,denunci,contar=report; contact,atencion=contact; respond,contest=answer
emplead,trabajador=staff; persona,gente=person
discapac,silla de ruedas,ciego,sordo,signos=disability wheelchair blind deaf
hijo,hija,nino,nina,nieto=child; mujer,esposa=wife; marido,esposo=husband
madre,mama,abuela=mother; padre,papa,abuelo=father; hermano,hermana=brother; primo,prima=cousin
tia=aunt; amigo=friend; jefe=boss; falleci,difunt,murio,heren=deceased; edad,menor=age
clima,carbono,ecolog,emision=climate carbon; suscrip=subscription; cantidad=quantity
varios,mucho,mucha=many; primer=first; ultim=last; siguiente,proxim=next; segund=second
medio=half; doble=double; una,uno=one; dos=two; tres=three; cuatro=four; cinco=five; seis=six
siete=seven; ocho=eight; nueve=nine; diez=ten; doce=twelve; quince=fifteen; veinte=twenty
cien=hundred; mil=thousand; euro=euros; centim=cents; ciento=percent; franco=Swiss francs
calcul=calculate; decid=decide; comprob,revis=check; falt=missing; vacio=empty
conten,dentro=contents inside; fuera=outside; vivo,vive,vivir=live; trabaj=work; casa=house
pueblo=village; ciudad=city; banco,transferenci=bank transfer; subir,adjunt=upload attach
escrib=write; lee,leer=read; ver,mir,veo=look; hacer,hago,hace,haga=do; ir,voy,va,van=go
dejar,dej=leave; llev,coger,traer,trae=take; dar,dais,doy=give; poner,pong=put; saber,sab=know
pregunt=ask; funcion=work; reenvi=forward; distint=different; nuev=new; viej=old; pequen=small
buen=good; letra=letter; cifra,digito=digit; combustible,gasoleo=fuel; remot,aislad=remote area
deposito,almacen=depot; resguardo=receipt; siniestro=damage; portes=shipping cost
trozo,pedazo=piece; anad=add; tapa=cover
"""

_SOURCES = {"de": GERMAN, "es": SPANISH}


@cache
def _tables(language: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return phrases and single words of a language."""
    phrases: dict[str, str] = {}
    singles: dict[str, str] = {}
    for entry in re.split(r"[;\n]", re.sub(r",\s*\n", ",", _SOURCES[language])):
        forms, _, english = entry.strip().partition("=")
        for form in filter(None, (fold(part.strip()) for part in forms.split(","))):
            table = phrases if " " in form else singles
            table.setdefault(form, english.strip())
    return phrases, singles


def size(language: str) -> int:
    """Return the number of forms of a language."""
    return sum(map(len, _tables(language)))


#: Letters by which an ending may be longer than an entry; what is longer is read as a compound.
_ENDING = 4


def _word(word: str, singles: dict[str, str], compounds: bool) -> str | None:
    """Return the English of a word, None where it is not known."""
    if word in singles:
        return singles[word]
    for n in range(len(word) - 1, 3, -1):
        english = singles.get(word[:n])
        if english is None:
            continue
        rest = word[n:]
        if compounds and len(rest) >= 4:
            tail = _word(rest, singles, True) or _word(rest.removeprefix("s"), singles, True)
            if tail:
                return f"{english} {tail}"
        if len(rest) <= _ENDING or n >= 6:
            return english
    return None


@lru_cache(maxsize=20_000)
def translated(text: str, language: str) -> str:
    """Translate a question word by word into English.

    Parameters
    ----------
    text : str
    language : str
        de or es; a text in another language comes back as it is.

    Returns
    -------
    str
        In lower case. A word that is not known stays: names, numbers, words that English shares.
    """
    if language not in _SOURCES:
        return text
    phrases, singles = _tables(language)
    folded = " ".join(re.findall(r"[^\W_]+(?:[-‑.,][^\W_]+)*|[?]", fold(text)))
    for phrase in sorted(phrases, key=len, reverse=True):
        folded = re.sub(rf"\b{re.escape(phrase)}\b", f"<{phrases[phrase]}>", folded)
    out = []
    for piece in re.findall(r"<[^>]*>|[^\s<>]+", folded):
        if piece.startswith("<"):
            out.append(piece[1:-1])
        else:
            out.append(_word(piece, singles, language == "de") or piece)
    return " ".join(word for word in out if word != "-")


#: Under this salt the questions were split when the glossary was written.
_EARLIER = "support-1"


def unread(keys: Iterable[str], share: float = 0.4) -> list[bool]:
    """Say of questions, by what the world splits them by, whether the glossary's author left them.

    Parameters
    ----------
    keys : iterable of str
        Group of the topic, or the question's id.
    share : float
        Of tuning questions.

    Returns
    -------
    list of bool
        True where the question was a test question already when the glossary was written.
    """
    digests = (hashlib.sha256(f"{_EARLIER}/{key}".encode()).digest() for key in keys)
    return [int.from_bytes(digest[:8], "big") >= share * 2**64 for digest in digests]
