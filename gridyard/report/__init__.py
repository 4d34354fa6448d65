"""Reports: one job, or several side by side, as a page, as a figure, or as a table of the terminal.

look        a job's record and, where it can be had, its best model on the test part
facts       numbers and names as people read them; units
compare     what is the same and what differs between jobs
drawing     figures: style, panels, svg and files
curves · classes · values     the panels
page        HTML that opens without network
write       whole files at the user's place

Importing it loads nothing heavy.
"""
