"""How each family of extractive questions is worded; a template is `family/name`."""

from __future__ import annotations

WORDINGS: dict[str, dict[str, str]] = {
    "identify/subject": {
        "what_shows": "What does the figure show?",
        "what_seen": "What can be seen in the figure?",
        "what_depicted": "What is depicted here?",
        "name_subject": "Name the main subject of this picture.",
        "what_picture": "What is this a picture of?",
    },
    "identify/plot": {
        "what_plotted": "What is plotted in the figure?",
        "what_graph": "What does the graph show?",
        "what_subject": "What is the subject of the graph?",
    },
    "identify/medium": {
        "what_shows": "What does the {medium} show?",
        "what_subject": "What is the subject of the {medium}?",
        "what_of": "What is this {medium} of?",
        "what_seen": "What can be seen in this {medium}?",
    },
    "identify/series": {
        "what_meaning": "What is meant by {mark}?",
        "what_stands": "What {do} {mark} stand for?",
        "what_represents": "What is represented by {mark} in the figure?",
        "what_shows": "What {do} {mark} show?",
    },
    "identify/coloured": {
        "what_in": "What is shown in {colour}?",
        "what_stands": "What does the colour {colour} stand for in the figure?",
        "what_coloured": "What is coloured {colour} in the figure?",
    },
    "value/quantity": {
        "what_is": "What is the {quantity}?",
        "which": "Which {quantity} is given?",
        "give": "State the {quantity}.",
        "how_large": "How large is the {quantity}?",
    },
    "value/owned": {
        "what_is": "What is the {quantity} of {owner}?",
        "which_has": "Which {quantity} does {owner} have?",
        "state": "State the {quantity} of {owner}.",
    },
    "value/pair": {
        "which_given": "Which {what} is given {link} {at}?",
        "what_read": "What {what} can be read off {link} {at}?",
    },
    "value/course": {
        "which_value": "Which value {do} {subject} have {link} {at}{when}?",
        "what_read": "What can be read off for {subject} {link} {at}{when}?",
        "how_much": "What value {do} {subject} reach {link} {at}{when}?",
    },
    "value/being": {
        "what_is": "What {is} {subject}{when}?",
        "how_large": "How large {is} {subject}{when}?",
        "which": "Which value is given for {subject}{when}?",
    },
    "value/at": {
        "at_what": "{Link} what {what} {do} {subject} {verb}{when}?",
        "at_which": "{Link} which {what} {do} {subject} {verb}{when}?",
    },
    "value/extent": {
        "how_far": "How {far} {is} the {thing}?",
        "how_far_figure": "How {far} {is} the {thing} in the figure?",
    },
    "value/parameter": {
        "which_value": "Which value of {symbol} belongs to {thing}?",
        "what_is": "What is {symbol} for {thing}?",
        "has": "What value does {symbol} have for {thing}?",
    },
    "gap/value": {
        "fill": "Fill in the missing value: {gap}",
        "which": "Which value is missing from this statement? {gap}",
        "complete": "Complete the statement with the right number: {gap}",
        "what": "What belongs in the gap? {gap}",
    },
    "date/year": {
        "which_year": "Which year is given for the figure?",
        "what_year": "What year does the description of the figure mention?",
        "year_belongs": "Which year belongs to this figure?",
    },
    "count/shown": {
        "how_many_shown": "How many {things} are shown?",
        "how_many_figure": "How many {things} does the figure show?",
        "how_many_see": "How many {things} are there in the figure?",
        "count_things": "Count the {things} in the figure.",
    },
    "count/mentioned": {
        "how_many_there": "How many {things} are there?",
        "what_number": "What is the number of {things} in the figure?",
        "how_many_deal": "How many {things} does the figure deal with?",
        "how_many_give": "Give the number of {things}.",
    },
    "count/covered": {
        "cover": "How many {things} does the figure cover?",
        "different": "How many different {things} are there in the figure?",
    },
    "count/each": {
        "how_many": "How many {things} are there {each}?",
        "how_many_see": "How many {things} does the figure show {each}?",
    },
    "axis/upright": {
        "against": "What is plotted against {level}?",
        "vertical": "What is on the vertical axis?",
        "upward": "Which quantity is drawn upward in the graph?",
    },
    "axis/level": {
        "against": "Against what is {upright} plotted?",
        "horizontal": "What is on the horizontal axis?",
        "to_right": "Which quantity grows along the horizontal axis?",
    },
    "colour/marks": {
        "which_stands": "Which colour stands for {thing} in the figure?",
        "what_used": "What colour is used for {thing}?",
        "in_which": "In which colour does the figure show {thing}?",
        "which_marks": "Which colour marks {thing}?",
    },
    "colour/subject": {
        "what_colour": "What colour {is} the {noun}?",
        "which_colour": "Which colour {is} the {noun}?",
        "state": "Name the colour of the {noun}.",
    },
    "label/stands": {
        "stands_for": "What does the label {label} stand for in the figure?",
        "marked": "What is marked {label} in the figure?",
        "which_part": "What is labelled {label}?",
    },
    "position/what": {
        "what_shown": "What is shown {place}?",
        "what_there": "What is there to see {place}?",
        "what_see": "What can be seen {place}?",
    },
    "position/where": {
        "where_does": "Where {do} {subject} {verb}?",
        "where_figure": "Where in the figure {do} {subject} {verb}?",
    },
    "compare/which": {
        "which": "Which {verb} {degree}: {first} or {second}?",
        "of_the_two": "Of {first} and {second}, which {verb} {degree}?",
        "compare": "Compare {first} and {second}: which {verb} {degree}?",
    },
    "compare/utmost": {
        "which": "{what} {does}?",
        "in_figure": "In the figure, {lower} {does}?",
        "compare": "Compare what is shown: {lower} {does}?",
    },
    "compare/times": {
        "how": "How {how} {does}{than}?",
        "by_comparison": "By comparison, how {how} {does}{than}?",
    },
    "compare/common": {
        "common": "What do {things} have in common?",
        "how_alike": "In what way are {things} alike?",
    },
    "compare/cases": {
        "compare": "Compare the case {first} with the case {second}.",
        "how_differ": "How does the case {first} differ from the case {second}?",
    },
    "compare/contrast": {
        "how_differ": "How do {first} and {second} differ?",
        "compare": "Compare {first} and {second}.",
        "how_compare": "How does what is shown of {first} compare with {second}?",
    },
    "explain/why": {
        "why": "Why {does}?",
        "for_reason": "For what reason {does}?",
    },
    "explain/reason": {
        "what_reason": "What is the reason that {clause}?",
        "why_is_it": "Why is it that {clause}?",
        "what_explains": "What explains that {clause}?",
    },
    "explain/purpose": {
        "what_effect": "What is the effect of the fact that {clause}?",
        "what_follows": "What follows from the fact that {clause}?",
    },
    "define/term": {
        "what_is": "What {verb} {term}?",
        "how_defined": "How {verb} {term} defined?",
        "what_meant": "What is meant by {term}?",
    },
    "define/name": {
        "what_is": "What {verb} {term}?",
        "tell_what": "Tell what {term} {verb}.",
    },
    "describe/statement": {
        "figure_show": "What does the figure show about {thing}?",
        "can_see": "What can be seen about {thing} in the figure?",
        "describe": "Describe what the figure shows of {thing}.",
        "say": "What can be said about {thing} from the figure?",
    },
    "behave/course": {
        "happens": "What happens to {thing}{when}?",
        "behave": "How {do} {thing} behave{when}?",
    },
    "which/does": {
        "which": "{what} {does}?",
        "in_figure": "In the figure, {lower} {does}?",
        "tell": "Look at the figure: {lower} {does}?",
    },
    "context/about": {
        "text_say": "What does the accompanying text say about {thing}?",
        "what_learn": "What is there to know about {thing}?",
        "what_tell": "What can you tell me about {thing}?",
        "what_true": "What is known about {thing}?",
    },
    "topic/section": {
        "which_topic": "Which topic does the figure illustrate?",
        "what_subject": "What is the subject of the text that this figure belongs to?",
        "belongs": "To which topic does the figure belong?",
    },
}
